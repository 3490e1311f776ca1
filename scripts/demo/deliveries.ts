import { createHash } from 'node:crypto'
import definitions from '@octokit/webhooks-examples' with { type: 'json' }

export interface Delivery {
  source: string
  type: string
  id: string
  time?: string
  data: Payload
}

interface Payload {
  repository?: { html_url: string }
  organization?: { login: string }
  [member: string]: unknown
}

/** The deliveries as records. A few are in the package twice, and stay so: they show as duplicates. */
export function readDeliveries(): Delivery[] {
  return (definitions as unknown as { name: string; examples: Payload[] }[]).flatMap(({ name, examples }) =>
    examples.map((payload) => ({
      source: sourceOf(payload),
      type: `github.${name}`,
      id: idOf(name, payload),
      ...timeOf(name, payload),
      data: payload,
    })),
  )
}

/** What the delivery is from: the repository, else the organization. Those of apps and of the marketplace have neither. */
function sourceOf({ repository, organization }: Payload): string {
  if (repository !== undefined) return repository.html_url
  return organization === undefined ? 'https://github.com' : `https://github.com/${organization.login}`
}

/** GitHub's X-GitHub-Delivery is a header, and headers are not in the package: the content names itself. */
function idOf(name: string, payload: Payload): string {
  return createHash('sha256').update(name).update(JSON.stringify(payload)).digest('hex')
}

/** A delivery has no time of its own. The thing it is about has: `issue` in `issues`, `release` in `release`. */
function timeOf(name: string, payload: Payload): { time?: string } {
  const subject = (payload[name] ?? payload[name.replace(/s$/, '')]) as { updated_at?: unknown } | undefined
  return typeof subject?.updated_at === 'string' ? { time: subject.updated_at } : {}
}

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

/** Returns the deliveries as records. The package contains a few of them twice, and the server counts these as duplicates. */
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

/** The source is the repository or else the organization. Deliveries of apps and of the marketplace have neither. */
function sourceOf({ repository, organization }: Payload): string {
  if (repository !== undefined) return repository.html_url
  return organization === undefined ? 'https://github.com' : `https://github.com/${organization.login}`
}

/** GitHub sends the id in the header X-GitHub-Delivery, but the package has no headers, so the id is a hash of the content. */
function idOf(name: string, payload: Payload): string {
  return createHash('sha256').update(name).update(JSON.stringify(payload)).digest('hex')
}

/** A delivery has no time, but its subject has one: `issue` in an `issues` delivery, `release` in a `release` delivery. */
function timeOf(name: string, payload: Payload): { time?: string } {
  const subject = (payload[name] ?? payload[name.replace(/s$/, '')]) as { updated_at?: unknown } | undefined
  return typeof subject?.updated_at === 'string' ? { time: subject.updated_at } : {}
}

import { InvalidArgumentError, Option } from 'commander'
import { explain } from '../lib/explain.ts'

/** A Sluice that answers somewhere, and the key to show there. */
export interface Server {
  /** Without a slash at the end. */
  url: string
  token: string
}

/** A refusal (RFC 9457), with the members that tell what to do. */
export interface ProblemDocument {
  title: string
  detail: string
  code: string
  retryable: boolean
  outcome: string
  [member: string]: unknown
}

/** The same request may succeed later. */
export class TryAgain extends Error {
  /** What the server asked to wait, in milliseconds; undefined when it said nothing. */
  readonly waitMs: number | undefined
  /** What it said, when it was Sluice that answered. */
  readonly problem: ProblemDocument | undefined

  constructor(
    message: string,
    options: ErrorOptions & { waitMs?: number | undefined; problem?: ProblemDocument } = {},
  ) {
    super(message, options)
    this.waitMs = options.waitMs
    this.problem = options.problem
  }
}

/** The same request would be refused again. */
export class Refused extends Error {
  readonly problem: ProblemDocument

  constructor(problem: ProblemDocument) {
    super(problem.detail)
    this.problem = problem
  }
}

/** What every client of ours asks for: `--url`. */
export const urlOption = () =>
  new Option('--url <url>', 'the server')
    .env('SLUICE_URL')
    .default('http://127.0.0.1:3000')
    .argParser((text) => {
      if (!/^https?:/.test(text) || !URL.canParse(text))
        throw new InvalidArgumentError('It must be an http: or https: URL.')
      const { origin, pathname } = new URL(text)
      return `${origin}${pathname.replace(/\/+$/, '')}`
    })

/** @throws when nothing answers at `url` */
export async function reach(url: string): Promise<void> {
  await fetch(`${url}/healthz`, { signal: AbortSignal.timeout(10_000) }).catch((error) => {
    throw new Error(
      `Nothing answers at ${url} (${explain(error.cause ?? error)}). Run npm start in another terminal, or name a server with --url`,
    )
  })
}

/**
 * Sends one request.
 * @returns the answer, when it is a 2xx; its body is still to be read
 * @throws TryAgain, Refused; Error when what answers is no Sluice
 */
export async function send({ url, token }: Server, path: string, init: RequestInit): Promise<Response> {
  const response = await fetch(`${url}${path}`, {
    ...init,
    headers: { authorization: `Bearer ${token}`, ...init.headers },
    // The key is for this address, and a POST that is redirected may become a GET.
    redirect: 'manual',
  }).catch((cause) => {
    throw new TryAgain(`The connection to ${url} broke`, { cause })
  })
  if (response.ok) return response
  const body = await readText(response, url)
  throw refusal(response, body, url)
}

/** The body of an answer. @throws TryAgain when it breaks off: what was asked for may have happened. */
export async function readText(response: Response, url: string): Promise<string> {
  return response.text().catch((cause) => {
    throw new TryAgain(`${url} answered ${response.status}, but not to the end`, { cause })
  })
}

export function isOther(url: string, what: string): Error {
  return new Error(`${url} answered ${what} and not as Sluice does: is it another server?`)
}

/** What a proxy says when it cannot reach the server behind it (RFC 9110), or is asked too often (RFC 6585). */
const TRANSIENT = [429, 502, 503, 504]

function refusal({ status, headers }: Response, body: string, url: string): Error {
  const waitMs = readRetryAfter(headers.get('retry-after'))
  if (headers.get('content-type')?.startsWith('application/problem+json')) {
    const problem: ProblemDocument = JSON.parse(body)
    return problem.retryable ? new TryAgain(problem.detail, { waitMs, problem }) : new Refused(problem)
  }
  if (TRANSIENT.includes(status)) return new TryAgain(`${url} answered ${status}`, { waitMs })
  const location = headers.get('location')
  if (location !== null) return new Error(`${url} redirects to ${location}: name that server with --url`)
  return isOther(url, String(status))
}

/** RFC 9110, section 10.2.3: seconds, or a date, which only proxies send. */
function readRetryAfter(text: string | null): number | undefined {
  if (text === null) return undefined
  const milliseconds = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now()
  return Number.isNaN(milliseconds) ? undefined : Math.max(milliseconds, 0)
}

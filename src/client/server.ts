import { InvalidArgumentError, Option } from 'commander'
import { explain } from '../lib/explain.ts'
import { printable } from '../lib/printable.ts'

/** A Sluice server and the API key for it. */
export interface Server {
  /** Without a slash at the end. */
  url: string
  token: string
}

/** A problem document (RFC 9457), with the members of Sluice. */
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
  /** How long the server asked to wait, in milliseconds; undefined: it did not say. */
  readonly waitMs: number | undefined
  /** The problem document, if the response came from Sluice. */
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

/** A response that does not come from Sluice: the URL is wrong, or a proxy cannot reach the server. */
export class NotSluice extends Error {
  /** What the response was, without the advice for a wrong URL. */
  readonly what: string

  constructor(what: string, advice: string) {
    super(`${what}${advice}`)
    this.what = what
  }
}

/** The option `--url` of all client commands. */
export const urlOption = () =>
  new Option('--url <url>', 'URL of the server')
    .env('SLUICE_URL')
    .default('http://127.0.0.1:3000')
    .argParser((text) => {
      if (!/^https?:/.test(text) || !URL.canParse(text))
        throw new InvalidArgumentError('It must be an http: or https: URL.')
      const { origin, pathname } = new URL(text)
      const path = /^(.*?)\/(?:v1|docs|console)(?:\/.*)?$/.exec(pathname)
      if (path !== null) throw new InvalidArgumentError(`It must be the URL of the server alone: ${origin}${path[1]}`)
      return `${origin}${pathname.replace(/\/+$/, '')}`
    })

/** @throws if no server responds at `url` */
export async function checkReachable(url: string): Promise<void> {
  await fetch(`${url}/healthz`, { signal: AbortSignal.timeout(10_000) }).catch((error) => {
    throw new Error(
      `No server responds at ${url} (${explain(error.cause ?? error)}). ${adviceFor(error.cause?.code, url)}`,
    )
  })
}

function adviceFor(code = '', url: string): string {
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG')
    return `It speaks plain HTTP: --url ${url.replace('https:', 'http:')}`
  if (/CERT|SIGNATURE/.test(code)) return 'Set NODE_EXTRA_CA_CERTS to a file with the certificate of its authority'
  const isLocal = /^(?:localhost|127[.\d]*|\[::1\])$/.test(new URL(url).hostname)
  return isLocal
    ? 'Run npm start in another terminal, or specify a server with --url'
    : 'Start it, or specify another server with --url'
}

/**
 * Sends one request.
 * @returns the response, if its status is 2xx; its body has not been read yet
 * @throws TryAgain, Refused, NotSluice
 */
export async function send({ url, token }: Server, path: string, init: RequestInit): Promise<Response> {
  const response = await fetch(`${url}${path}`, {
    ...init,
    headers: { authorization: `Bearer ${token}`, ...init.headers },
    // The key must not go to another address, and a POST can become a GET when it is redirected.
    redirect: 'manual',
  }).catch((cause) => {
    throw new TryAgain(`The connection to ${url} broke`, { cause })
  })
  if (response.ok) return response
  const body = await readText(response, url)
  throw failure(response, body, url)
}

/** The body of a response. @throws TryAgain if it breaks off; the server may have processed the request */
export async function readText(response: Response, url: string): Promise<string> {
  return response.text().catch((cause) => {
    throw new TryAgain(`${url} answered ${response.status}, but the response broke off`, { cause })
  })
}

/** The JSON of a response whose text has been read. @throws TryAgain if it is cut; NotSluice if it is something else */
export function readJson(
  { status, headers }: Pick<Response, 'status' | 'headers'>,
  text: string,
  url: string,
): unknown {
  const type = headers.get('content-type')
  if (!/^application\/(?:problem\+)?json\b/.test(type ?? ''))
    throw notSluiceError(url, `${status} ${type ?? ''}`.trim())
  try {
    return JSON.parse(text)
  } catch (cause) {
    // A proxy that speaks HTTP/1.0 ends a response that broke off like a complete one.
    throw new TryAgain(`The response of ${url} is not complete`, { cause })
  }
}

export const notSluiceError = (url: string, what: string): NotSluice =>
  new NotSluice(
    `${url} answered ${what}, which is not a response of Sluice`,
    '. Specify another server with --url. If Sluice is below a path, add it to --url',
  )

/** Statuses of a proxy that cannot reach the server behind it (RFC 9110), or that limits the rate (RFC 6585). */
const TRANSIENT = [429, 502, 503, 504]

/** @throws TryAgain if the body is cut */
function failure(response: Response, body: string, url: string): Error {
  const { status, headers } = response
  const waitMs = readRetryAfter(headers.get('retry-after'))
  if (headers.get('content-type')?.startsWith('application/problem+json')) {
    const problem = readProblem(readJson(response, body, url))
    if (problem?.retryable === true) return new TryAgain(problem.detail, { waitMs, problem })
    if (problem?.retryable === false) return new Refused(problem)
  }
  if (TRANSIENT.includes(status)) return new TryAgain(`${url} answered ${status}`, { waitMs })
  const location = headers.get('location')
  if (location !== null) return new NotSluice(`${url} redirects to ${location}`, ': specify that server with --url')
  return notSluiceError(url, String(status))
}

/** Its detail is shown, and may quote a value of a client. @returns undefined if it is a problem of another program, such as a gateway */
function readProblem(value: unknown): ProblemDocument | undefined {
  const problem = value as ProblemDocument | null
  return typeof problem?.detail === 'string' ? { ...problem, detail: printable(problem.detail) } : undefined
}

/** RFC 9110, section 10.2.3: seconds, or a date. Sluice sends seconds, but a proxy may send a date. */
function readRetryAfter(text: string | null): number | undefined {
  if (text === null) return undefined
  const milliseconds = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now()
  return Number.isNaN(milliseconds) ? undefined : Math.max(milliseconds, 0)
}

import { setTimeout as sleep } from 'node:timers/promises'
import { explain } from '../../src/commands/database.ts'
import type { Delivery } from './deliveries.ts'

export type Counts = Record<'created' | 'duplicate' | 'conflict' | 'rejected', number>

export interface Answer {
  counts: Counts
  /** Why records were refused. */
  reasons: string[]
}

/** Some 25 seconds with the waits between them: longer than a restart. */
const TRIES = 7
const FIRST_WAIT_MS = 500
const LONGEST_WAIT_MS = 10_000
/** The server holds a request while its database is away: OUTAGE_HOLD_SECONDS and some more. */
const PATIENCE_MS = 60_000

/** @throws when nothing answers at `url` */
export async function openClient(url: string, token: string): Promise<{ store(batch: Delivery[]): Promise<Answer> }> {
  await fetch(new URL('/healthz', url)).catch((error) => {
    const why = explain(error.cause ?? error)
    throw new Error(
      `Nothing answers at ${url} (${why}). Run npm start in another terminal, or name a server with --url`,
    )
  })
  return { store }

  /** Sends until there is an answer that stays. The ids make that safe: what an unheard answer stored is a duplicate. */
  async function store(batch: Delivery[]): Promise<Answer> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await send(batch)
      } catch (error) {
        if (!(error instanceof TryAgain) || attempt === TRIES) throw error
        await sleep(Math.min(error.waitMs ?? FIRST_WAIT_MS * 2 ** (attempt - 1), LONGEST_WAIT_MS))
      }
    }
  }

  async function send(batch: Delivery[]): Promise<Answer> {
    const response = await fetch(new URL('/v1/records', url), {
      method: 'POST',
      headers: {
        authorization: `Bearer ${token}`,
        'content-type': 'application/json',
        // Only the counts, and what was refused.
        prefer: 'return=minimal',
      },
      body: JSON.stringify(batch),
      signal: AbortSignal.timeout(PATIENCE_MS),
    }).catch((cause) => {
      throw new TryAgain(`The connection to ${url} broke`, undefined, { cause })
    })
    const body = await response.text().catch((cause) => {
      throw new TryAgain(`${url} answered ${response.status}, but not to the end`, undefined, { cause })
    })
    if (response.ok) return toAnswer(JSON.parse(body))
    return toRefusal(response, body)
  }

  function toRefusal({ status, headers }: Response, body: string): Answer {
    if (!headers.get('content-type')?.startsWith('application/problem+json')) {
      throw new Error(`${url} answered ${status} and not as Sluice does: is it another server?`)
    }
    const problem: Problem = JSON.parse(body)
    // RFC 9110, section 10.2.3: in seconds. Sluice never sends a date.
    const wait = headers.get('retry-after')
    if (problem.retryable) throw new TryAgain(problem.detail, wait === null ? undefined : Number(wait) * 1000)
    // Without one error for each record it was the request that was refused: the key, for one.
    if (problem.errors === undefined) throw new Error(problem.detail)

    const conflict = problem.errors.filter(({ code }) => code === 'conflict').length
    const counts = { created: 0, duplicate: 0, conflict, rejected: problem.errors.length - conflict }
    return { counts, reasons: problem.errors.map(({ detail }) => detail) }
  }
}

/** The same request may succeed later. */
class TryAgain extends Error {
  readonly waitMs: number | undefined
  constructor(message: string, waitMs: number | undefined, options?: ErrorOptions) {
    super(message, options)
    this.waitMs = waitMs
  }
}

interface Fault {
  code: string
  detail: string
}

/** RFC 9457, with the members that tell what to do. */
interface Problem {
  detail: string
  retryable: boolean
  errors?: Fault[]
}

interface Results {
  counts: Counts
  results: { error?: Fault }[]
}

function toAnswer({ counts, results }: Results): Answer {
  return { counts, reasons: results.flatMap(({ error }) => (error === undefined ? [] : [error.detail])) }
}

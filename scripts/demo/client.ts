import { retry } from '../../src/client/retry.ts'
import { type ProblemDocument, Refused, readText, type Server, send } from '../../src/client/server.ts'
import type { Delivery } from './deliveries.ts'

export type Counts = Record<'created' | 'duplicate' | 'conflict' | 'rejected', number>

export interface Answer {
  counts: Counts
  /** Why records were refused. */
  reasons: string[]
}

/** The server holds a request while its database is away: OUTAGE_HOLD_SECONDS and some more. */
const PATIENCE_MS = 60_000

/** Sends until there is an answer that stays. The ids make that safe: what an unheard answer stored is a duplicate. */
export async function store(server: Server, batch: Delivery[]): Promise<Answer> {
  const body = JSON.stringify(batch)
  return retry(async () => {
    try {
      const response = await send(server, '/v1/records', {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          // Only the counts, and what was refused.
          prefer: 'return=minimal',
        },
        body,
        signal: AbortSignal.timeout(PATIENCE_MS),
      })
      return toAnswer(JSON.parse(await readText(response, server.url)))
    } catch (error) {
      if (error instanceof Refused) return toRefusal(error)
      throw error
    }
  })
}

interface Fault {
  code: string
  detail: string
}

interface Results {
  counts: Counts
  results: { error?: Fault }[]
}

function toAnswer({ counts, results }: Results): Answer {
  return { counts, reasons: results.flatMap(({ error }) => (error === undefined ? [] : [error.detail])) }
}

function toRefusal(refused: Refused): Answer {
  const { errors } = refused.problem as ProblemDocument & { errors?: Fault[] }
  // Without one error for each record it was the request that was refused: the key, for one.
  if (errors === undefined) throw refused
  const conflict = errors.filter(({ code }) => code === 'conflict').length
  const counts = { created: 0, duplicate: 0, conflict, rejected: errors.length - conflict }
  return { counts, reasons: errors.map(({ detail }) => detail) }
}

import { retry } from '../../src/client/retry.ts'
import { type ProblemDocument, Refused, readText, type Server, send } from '../../src/client/server.ts'
import type { Counts } from '../../src/schemas/results.ts'
import type { Delivery } from './deliveries.ts'

export interface Stored {
  counts: Counts
  /** Why records were not stored. */
  reasons: string[]
}

/** Longer than the server holds a request while its database is unavailable (OUTAGE_HOLD_SECONDS). */
const TIMEOUT_MS = 60_000

/**
 * Sends a batch until a response says which records are stored. Sending it again is safe: if a response was lost, the records
 * that the first request stored are duplicates.
 */
export async function store(server: Server, batch: Delivery[]): Promise<Stored> {
  const body = JSON.stringify(batch)
  return retry(async () => {
    try {
      const response = await send(server, '/v1/records', {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          // The response has the counts, and results only for records that were not stored.
          prefer: 'return=minimal',
        },
        body,
        signal: AbortSignal.timeout(TIMEOUT_MS),
      })
      return fromResults(JSON.parse(await readText(response, server.url)))
    } catch (error) {
      if (error instanceof Refused) return fromProblem(error)
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

function fromResults({ counts, results }: Results): Stored {
  return { counts, reasons: results.flatMap(({ error }) => (error === undefined ? [] : [error.detail])) }
}

function fromProblem(refused: Refused): Stored {
  const { errors } = refused.problem as ProblemDocument & { errors?: Fault[] }
  // A problem without errors of records is about the request itself, for example its key.
  if (errors === undefined) throw refused
  const conflict = errors.filter(({ code }) => code === 'conflict').length
  const counts = { created: 0, duplicate: 0, conflict, rejected: errors.length - conflict }
  return { counts, reasons: errors.map(({ detail }) => detail) }
}

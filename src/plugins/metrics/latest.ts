import { settlesWithin } from '../../lib/settles-within.ts'
import { SingleFlight } from '../../lib/single-flight.ts'

/** Maximum time that a scrape waits for the database. After that, it gets the values of the last query. */
const MAX_WAIT_MS = 500

interface Ages {
  /** The least time between two queries, in milliseconds. */
  pauseMs: number
  /** Older values are not reported. */
  maxAgeMs: number
}

/**
 * What a query of the database returns, for the metrics of a scrape. One query runs at a time, which concurrent calls share. Ignores
 * errors: other metrics show that the database is unavailable.
 * @returns undefined: nothing is known, or it is too old
 */
export function latestOf<T>(select: () => Promise<T>, { pauseMs, maxAgeMs }: Ages): () => Promise<T | undefined> {
  let known: T | undefined
  let at = Number.NEGATIVE_INFINITY
  const reading = new SingleFlight(async () => {
    const begin = performance.now()
    const found = await select().catch(() => undefined)
    if (found === undefined) return
    known = found
    at = begin
  })
  const age = () => performance.now() - at
  return async () => {
    if (age() >= pauseMs) await settlesWithin(reading.run(), MAX_WAIT_MS)
    return age() <= maxAgeMs ? known : undefined
  }
}

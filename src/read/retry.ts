import { setTimeout as sleep } from 'node:timers/promises'
import { classifyFailure, sqlstateOf } from '../postgres/sqlstate.ts'

const FIRST_PAUSE_MS = 50
const MAX_PAUSE_MS = 500
/** query_canceled: a read that took too long would take as long again. */
const CANCELLED = '57014'

/**
 * Retries a read during an outage of the database, or if a standby cancelled it because of a conflict with replay (40001). For
 * reads whose response has begun, so that the client can no longer be asked to retry.
 * @param holdMs how long to retry, from the first failure on
 * @param signal ends the pause between two tries
 */
export async function retryDuringOutage<T>(read: () => Promise<T>, holdMs: number, signal: AbortSignal): Promise<T> {
  // Starts with the first failure: before that, the read may have waited a long time for its turn.
  let end: number | undefined
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, MAX_PAUSE_MS)) {
    try {
      return await read()
    } catch (error) {
      end ??= performance.now() + holdMs
      const isFinal = classifyFailure(error).kind !== 'transient' || sqlstateOf(error) === CANCELLED
      if (isFinal || performance.now() + pause > end) throw error
    }
    await sleep(pause, undefined, { signal })
  }
}

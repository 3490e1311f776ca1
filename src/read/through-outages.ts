import { setTimeout as sleep } from 'node:timers/promises'
import { classifyFailure, sqlstateOf } from '../data/sqlstate.ts'

const FIRST_PAUSE_MS = 50
const LONGEST_PAUSE_MS = 500
/** query_canceled: a read that took too long once takes as long again. */
const CANCELLED = '57014'

/**
 * Tries a read again while the database is away, or when a standby cancelled it for what it had to replay (40001): for who
 * cannot be told to try again himself any more, since his answer has begun.
 * @param holdMs how long; what fails after that fails
 * @param signal ends the pause between two tries
 */
export async function throughOutages<T>(read: () => Promise<T>, holdMs: number, signal: AbortSignal): Promise<T> {
  // From the first failure on: before, it may have waited long for its turn.
  let end: number | undefined
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
    try {
      return await read()
    } catch (error) {
      end ??= performance.now() + holdMs
      const isHopeless = classifyFailure(error).kind !== 'transient' || sqlstateOf(error) === CANCELLED
      if (isHopeless || performance.now() + pause > end) throw error
    }
    await sleep(pause, undefined, { signal })
  }
}

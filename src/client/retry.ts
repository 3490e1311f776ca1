// The object and not its member: the clock of a test replaces that.
import timers from 'node:timers/promises'
import { explain } from '../lib/explain.ts'
import { TryAgain } from './server.ts'

/** Some minute with the waits between them: longer than a restart, shorter than someone's patience. */
const TRIES = 10
const FIRST_WAIT_MS = 500
const LONGEST_WAIT_MS = 10_000
/** Who is asked to wait longer than this gives up: it is neither a restart nor a queue. */
const LONGEST_RETRY_AFTER_MS = 120_000

export interface RetryOptions {
  /** Ends the waiting; what is under way is not disturbed. */
  stop?: AbortSignal
  /** Says in a sentence what is waited for. */
  onWait?: (text: string) => void
}

/**
 * Does it until it succeeds or fails for good, never sooner again than the server asked for.
 * @throws what `work` throws; the last TryAgain when that was the last try; AbortError when stopped while it waits
 */
export async function retry<T>(work: () => Promise<T>, { stop, onWait }: RetryOptions = {}): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof TryAgain) || tries === TRIES || (error.waitMs ?? 0) > LONGEST_RETRY_AFTER_MS) throw error
      const backoff = Math.min(FIRST_WAIT_MS * 2 ** (tries - 1), LONGEST_WAIT_MS)
      const wait = Math.max(error.waitMs ?? 0, backoff)
      onWait?.(`${explain(error)}; trying again in ${(wait / 1000).toFixed(1)} s`)
      await timers.setTimeout(wait, undefined, stop === undefined ? {} : { signal: stop })
    }
  }
}

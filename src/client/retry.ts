// Imports the object and not its member, because tests replace the member with their own clock.
import timers from 'node:timers/promises'
import { explain } from '../lib/explain.ts'
import { TryAgain } from './server.ts'

/** With the waits in between, about a minute: longer than a restart, and not too long for a user to wait. */
const TRIES = 10
const FIRST_WAIT_MS = 500
const MAX_WAIT_MS = 10_000
/** If the server asks for a longer wait, give up: that is neither a restart nor a full queue. */
const MAX_RETRY_AFTER_MS = 120_000

/** Repeats a request as long as it should be. */
export type Attempt = <T>(work: () => Promise<T>) => Promise<T>

export interface RetryOptions {
  /** Infinity: until it succeeds. */
  tries?: number
  /** Ends a wait between two tries. A running try continues. */
  stop?: AbortSignal
  /** Called before each wait, with a sentence that says why. */
  onWait?: (text: string) => void
}

/**
 * Repeats `work` until it succeeds or fails permanently. Waits at least as long as the server asks.
 * @throws what `work` throws; the last TryAgain if all tries failed; AbortError if stopped during a wait
 */
export async function retry<T>(work: () => Promise<T>, options: RetryOptions = {}): Promise<T> {
  const { tries = TRIES, stop, onWait } = options
  for (let tried = 1; ; tried++) {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof TryAgain) || tried === tries || (error.waitMs ?? 0) > MAX_RETRY_AFTER_MS) throw error
      const backoff = Math.min(FIRST_WAIT_MS * 2 ** (tried - 1), MAX_WAIT_MS)
      const wait = Math.max(error.waitMs ?? 0, backoff)
      const when = tries === Number.POSITIVE_INFINITY ? 'until it succeeds' : `in ${(wait / 1000).toFixed(1)} s`
      onWait?.(`${explain(error)}; trying again ${when}`)
      await timers.setTimeout(wait, undefined, stop === undefined ? {} : { signal: stop })
    }
  }
}

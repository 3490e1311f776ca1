// Imports the object and not its member, because tests replace the member with their own clock.
import timers from 'node:timers/promises'
import { explain } from '../lib/explain.ts'
import { NotSluice, TryAgain } from './server.ts'

/** With the waits in between, about a minute: longer than a restart, and not too long for a user to wait. */
const TRIES = 10
const FIRST_WAIT_MS = 500
const MAX_WAIT_MS = 10_000
/** A server that asks for a longer wait neither restarts nor has a full queue: give up. With tries without end, wait only this long. */
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
 * Repeats `work` until it succeeds or fails permanently. Waits at least as long as the server asks, up to a limit.
 * @throws what `work` throws; the last TryAgain if all tries failed; AbortError if stopped during a wait
 */
export async function retry<T>(work: () => Promise<T>, options: RetryOptions = {}): Promise<T> {
  const { tries = TRIES, stop, onWait } = options
  const isEndless = tries === Number.POSITIVE_INFINITY
  for (let tried = 1; ; tried++) {
    try {
      return await work()
    } catch (error) {
      const asked = waitAfter(error, isEndless)
      if (asked === undefined || tried === tries) throw error
      const wait = Math.max(asked, Math.min(FIRST_WAIT_MS * 2 ** (tried - 1), MAX_WAIT_MS))
      const when = isEndless ? 'until it succeeds' : `in ${(wait / 1000).toFixed(1)} s`
      onWait?.(`${error instanceof NotSluice ? error.what : explain(error)}; trying again ${when}`)
      await timers.setTimeout(wait, undefined, stop === undefined ? {} : { signal: stop })
    }
  }
}

/** How long to wait at least before the next try, in milliseconds; undefined: it would fail again. */
function waitAfter(error: unknown, isEndless: boolean): number | undefined {
  // Tries are without end only after the server has answered once. So the URL is right, and a proxy cannot reach the server.
  if (isEndless && error instanceof NotSluice) return 0
  if (!(error instanceof TryAgain)) return undefined
  const { waitMs = 0 } = error
  if (waitMs <= MAX_RETRY_AFTER_MS) return waitMs
  return isEndless ? MAX_RETRY_AFTER_MS : undefined
}

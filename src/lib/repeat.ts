import { setTimeout as sleep } from 'node:timers/promises'

/**
 * Repeats `work` until it is stopped.
 * @param work returns the length of the pause after it, in milliseconds; it must not throw
 * @returns a function that stops the repetition; a run that has started is not interrupted
 */
export function repeat(work: () => Promise<number>): () => void {
  const stop = new AbortController()
  void (async () => {
    while (!stop.signal.aborted) {
      const pause = await work()
      await sleep(pause, undefined, { signal: stop.signal, ref: false }).catch(() => {})
    }
  })()
  return () => stop.abort()
}

import { setTimeout as sleep } from 'node:timers/promises'

/**
 * Does something again and again until it is stopped.
 * @param work must not throw; says how long the pause after it is, in milliseconds
 * @returns what stops it; a run that is under way goes on to its end
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

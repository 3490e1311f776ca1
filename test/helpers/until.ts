import { setTimeout as sleep } from 'node:timers/promises'
import { turn } from './clock.ts'

/** Less than the time limit of a test file (package.json), so that the failure names what did not happen. */
const PATIENCE_MS = 120_000
/** Asking without a pause would take a processor from the test that runs beside this one. */
const PAUSE_MS = 5

/**
 * Calls `ask` until it returns a value, and returns that value. For conditions that no event announces.
 * @throws after two minutes, with `what` in the message
 */
export async function until<T>(
  what: string,
  ask: () => T | undefined | false | Promise<T | undefined | false>,
): Promise<T> {
  for (const end = performance.now() + PATIENCE_MS; performance.now() < end; await sleep(PAUSE_MS)) {
    const found = await ask()
    if (found !== undefined && found !== false) return found
  }
  throw new Error(`timed out while waiting for ${what}`)
}

/** Resolves with a number when it has stayed the same `times` times in a row, each time after some real work. */
export async function untilStable(read: () => number, work: () => Promise<unknown>, times = 200): Promise<number> {
  let last = read()
  await until('a number to settle', async () => {
    for (let same = 0; same < times; same++) {
      await work()
      await turn()
      if (read() !== last) {
        last = read()
        return false
      }
    }
    return true
  })
  return last
}

import { setImmediate as nextIteration } from 'node:timers/promises'

/** Less than the time limit of a test file (package.json), so that the failure names what did not happen. */
const PATIENCE_MS = 120_000

/**
 * Calls `ask` until it returns a value, and returns that value. For conditions that no event announces.
 * @throws after two minutes, with `what` in the message
 */
export async function until<T>(
  what: string,
  ask: () => T | undefined | false | Promise<T | undefined | false>,
): Promise<T> {
  for (const end = performance.now() + PATIENCE_MS; performance.now() < end; await nextIteration()) {
    const found = await ask()
    if (found !== undefined && found !== false) return found
  }
  throw new Error(`timed out while waiting for ${what}`)
}

/** Resolves with a number when it has stayed the same `times` times in a row, each time after some real work. */
export async function untilStable(read: () => number, work: () => Promise<unknown>, times = 200): Promise<number> {
  let [last, same] = [read(), 0]
  await until('a number to settle', async () => {
    await work()
    if (read() === last) same++
    else [last, same] = [read(), 0]
    return same >= times
  })
  return last
}

import { setImmediate as nextTurn } from 'node:timers/promises'

/** Less than the limit of a file (package.json), so that the failure says what did not happen. */
const PATIENCE_MS = 120_000

/**
 * Asks again and again until there is something, which it returns; for what announces itself by no event.
 * @throws after two minutes, with `what` in the message
 */
export async function until<T>(
  what: string,
  ask: () => T | undefined | false | Promise<T | undefined | false>,
): Promise<T> {
  for (const end = performance.now() + PATIENCE_MS; performance.now() < end; await nextTurn()) {
    const found = await ask()
    if (found !== undefined && found !== false) return found
  }
  throw new Error(`waited in vain for ${what}`)
}

/** Resolves with a number once it no longer changes: the same, so many times in a row, each after some real work. */
export async function settles(of: () => number, work: () => Promise<unknown>, times = 200): Promise<number> {
  let [last, same] = [of(), 0]
  await until('a number to settle', async () => {
    await work()
    if (of() === last) same++
    else [last, same] = [of(), 0]
    return same >= times
  })
  return last
}

import { RoundRobin } from './round-robin.ts'

/**
 * Long work in short turns of the event loop, so that everyone else is served in between. Such work asks before each small
 * step whether the turn is over, and if so waits for its next one.
 *
 * The time is shared by the whole process, not given to each piece of work: those that wait go on one at a time, so a
 * hundred of them make no turn longer than one does. The API keys that they belong to get their turns by rotation.
 */

/** In milliseconds. A turn takes this and one more step of the work, which may be several milliseconds. */
const TURN_MS = 10

/** When the work of this turn has to stop; undefined while there is none. */
let end: number | undefined
const waiting = new RoundRobin<() => void>()

export function isTurnOver(): boolean {
  const now = performance.now()
  if (end === undefined) begin(now)
  return now >= (end as number)
}

/**
 * Resolves in a later turn, when it is the caller's.
 * @param owner the id of the API key that the work is done for
 */
export function waitForTurn(owner: string): Promise<void> {
  if (end === undefined) begin(performance.now())
  return new Promise((resolve) => waiting.push(owner, resolve))
}

function begin(now: number): void {
  end = now + TURN_MS
  setImmediate(startNext)
}

function startNext(): void {
  end = undefined
  const [next] = waiting.take()
  if (next === undefined) return
  begin(performance.now())
  next()
}

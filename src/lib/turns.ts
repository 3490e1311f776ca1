/**
 * Long work in short turns of the event loop, so that everyone else is served in between. Such work asks before each small
 * step whether the turn is over, and if so waits for its next one.
 *
 * The time is shared by the whole process, not given to each piece of work: those that wait go on one at a time, so a
 * hundred of them make no turn longer than one does.
 */

/** In milliseconds. A turn takes this and one more step of the work, which may be several milliseconds. */
const TURN_MS = 10

/** When the work of this turn has to stop; undefined while there is none. */
let end: number | undefined
const waiting: (() => void)[] = []

export function isTurnOver(): boolean {
  const now = performance.now()
  if (end === undefined) begin(now)
  return now >= (end as number)
}

/** Resolves in a later turn, when it is the caller's. */
export function waitForTurn(): Promise<void> {
  if (end === undefined) begin(performance.now())
  return new Promise((resolve) => void waiting.push(resolve))
}

function begin(now: number): void {
  end = now + TURN_MS
  setImmediate(startNext)
}

function startNext(): void {
  end = undefined
  const next = waiting.shift()
  if (next === undefined) return
  begin(performance.now())
  next()
}

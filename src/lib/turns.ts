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
  if (end === undefined) {
    end = now + TURN_MS
    setImmediate(startNext)
  }
  return now >= end
}

/** Resolves when it is the caller's turn. For those to whom `isTurnOver` has just said yes. */
export function waitForTurn(): Promise<void> {
  return new Promise((resolve) => void waiting.push(resolve))
}

function startNext(): void {
  const next = waiting.shift()
  end = next && performance.now() + TURN_MS
  if (next === undefined) return
  setImmediate(startNext)
  next()
}

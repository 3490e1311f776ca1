import { RoundRobin } from './round-robin.ts'

/**
 * Splits long work into short turns, so that the event loop serves other requests in between. Before each small step, the work
 * checks whether the turn is over; if it is, it waits for its next turn.
 *
 * The whole process shares one turn per iteration of the event loop. Pieces of work that wait continue one at a time, so a hundred
 * of them delay the event loop no longer than one. Their API keys take turns (round-robin.ts).
 */

/** In milliseconds. A turn takes this long plus the last step of the work, which may take several milliseconds. */
const TURN_MS = 10

/** The time at which the current turn ends; undefined if no turn has begun. */
let end: number | undefined
const waiting = new RoundRobin<() => void>()

export function isTurnOver(): boolean {
  const now = performance.now()
  if (end === undefined) begin(now)
  return now >= (end as number)
}

/**
 * Resolves when the caller's next turn begins.
 * @param owner the id of the API key for which the work is done
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

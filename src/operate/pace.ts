import { setTimeout as sleep } from 'node:timers/promises'
import { classifyFailure, sqlstateOf } from '../data/sqlstate.ts'

/** A step is sized to take this long. As long as a transaction is open that removes records, the feed waits for it. */
const STEP_MS = 100
/** After a step, so many times what it took is left to others: retention has a fifth of one connection. */
const REST = 4
const LONGEST_REST_MS = 5_000

const ROWS = { first: 500, least: 200, most: 10_000 }

/** Failures in a row after which it is given up. */
const MOST_FAILURES = 5

/**
 * Repeats a step, with pauses, until it has said that it was the last one. What fails because of others (a lock that is
 * not to be had, a statement that takes too long on a busy machine) is tried again, with fewer rows.
 * @param step is told how many rows it should take, and says whether there are more
 * @returns false when it was stopped before the last; after a step, never in one
 * @throws what the step throws
 */
export async function paced(stop: AbortSignal, step: (rows: number) => Promise<boolean>): Promise<boolean> {
  let rows = ROWS.first
  let failures = 0
  while (!stop.aborted) {
    const begin = performance.now()
    try {
      if (!(await step(rows))) return true
      failures = 0
    } catch (error) {
      if (!isPassing(error) || ++failures === MOST_FAILURES) throw error
    }
    const ms = performance.now() - begin
    const factor = Math.min(Math.max(STEP_MS / ms, 0.25), 2)
    rows = Math.min(Math.max(Math.round(rows * factor), ROWS.least), ROWS.most)
    await sleep(Math.min(ms * REST, LONGEST_REST_MS), undefined, { signal: stop }).catch(() => {})
  }
  return false
}

function isPassing(error: unknown): boolean {
  const failure = classifyFailure(error)
  return (failure.kind === 'transient' && !failure.away) || sqlstateOf(error) === STATEMENT_TIMEOUT
}

const STATEMENT_TIMEOUT = '57014'

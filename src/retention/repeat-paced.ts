import { setTimeout as sleep } from 'node:timers/promises'
import { classifyFailure, sqlstateOf } from '../postgres/sqlstate.ts'

/** The target duration of a step. The feed waits for a transaction that deletes records, so it must be short. */
const STEP_MS = 100
/** The pause after a step is this many times as long as the step, so retention uses a fifth of one connection. */
const REST = 4
const MAX_REST_MS = 5_000

const ROWS = { first: 500, min: 200, max: 10_000 }

/** The number of consecutive failures after which it gives up. */
const MAX_FAILURES = 5

/**
 * Repeats a step, with pauses, until the step says that it was the last one. A step that fails because of other sessions (a lock
 * is not available, a statement takes too long on a busy machine) is tried again with fewer rows.
 * @param step gets the number of rows to process; returns whether there are more
 * @param stop ends it after the current step
 * @returns false if it was stopped before the last step
 * @throws what the step throws
 */
export async function repeatPaced(stop: AbortSignal, step: (rows: number) => Promise<boolean>): Promise<boolean> {
  let rows = ROWS.first
  let failures = 0
  while (!stop.aborted) {
    const begin = performance.now()
    try {
      if (!(await step(rows))) return true
      failures = 0
    } catch (error) {
      if (!isTemporary(error) || ++failures === MAX_FAILURES) throw error
    }
    const ms = performance.now() - begin
    const factor = Math.min(Math.max(STEP_MS / ms, 0.25), 2)
    rows = Math.min(Math.max(Math.round(rows * factor), ROWS.min), ROWS.max)
    await sleep(Math.min(ms * REST, MAX_REST_MS), undefined, { signal: stop }).catch(() => {})
  }
  return false
}

function isTemporary(error: unknown): boolean {
  const failure = classifyFailure(error)
  return (failure.kind === 'transient' && !failure.unavailable) || sqlstateOf(error) === STATEMENT_TIMEOUT
}

const STATEMENT_TIMEOUT = '57014'

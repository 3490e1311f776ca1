import type { RowOutcome } from '../data/record-store.ts'
import type { Rows } from '../postgres/row.ts'
import { classifyFailure, sqlstateOf } from '../postgres/sqlstate.ts'
import { Problem, type ProblemCode } from '../problems.ts'

/** A request that is not answered yet. */
export interface WaitingRequest {
  /** The id of the API key that sent it. */
  key: string
  rows: Rows
  bytes: number
  strict: boolean
  /** The end of the hold window, on the clock of performance.now(). */
  deadline: number
  /** Why the request was withdrawn: no further statement with its rows is sent. Undefined if it was not withdrawn. */
  withdrawn?: Problem
  /** Whether a statement with its rows was sent that is not known to be rolled back. If so, its rows may be written. */
  outcomeUnknown: boolean
  outcomes: RowOutcome[]
  /** Number of rows without an outcome. */
  pendingRows: number
  trace: unknown
  done: (error: unknown, outcomes: RowOutcome[]) => void
}

/** SQLSTATE disk_full */
const DISK_FULL = '53100'

/**
 * Answers a request whose deadline has passed or that was withdrawn.
 * @param cause the last failure of its flush, or of the database during an outage; undefined if there was none
 */
export function answerLate(request: WaitingRequest, cause: unknown): void {
  if (request.withdrawn !== undefined) {
    const { code, message, headers } = request.withdrawn
    answerError(request, new Problem(code, message, { outcome: outcomeOf(request), headers }))
    return
  }
  const [code, reason] = lateReason(request, cause)
  const advice = request.outcomeUnknown
    ? 'The records may be stored. Sending the same request again is safe: its records are stored once.'
    : 'Send the request again.'
  answerError(request, new Problem(code, `${reason} ${advice}`, { outcome: outcomeOf(request), cause }))
}

function lateReason(request: WaitingRequest, cause: unknown): [ProblemCode, string] {
  if (sqlstateOf(cause) === DISK_FULL) return ['storage_full', 'The database has no space left on its disk.']
  if (cause !== undefined && classifyFailure(cause).unavailable)
    return ['database_unavailable', 'The database is unavailable.']
  if (cause !== undefined || request.outcomeUnknown)
    return ['database_unavailable', 'The database did not finish the write in time.']
  return [
    'overloaded',
    'The request was not sent to the database in time: the database is slow, or too many records arrive.',
  ]
}

export function answerDefect(request: WaitingRequest, cause: unknown): void {
  const detail = 'The records could not be written. The log has the reason under this requestId.'
  answerError(request, new Problem('internal_error', detail, { outcome: outcomeOf(request), cause }))
}

const outcomeOf = ({ outcomeUnknown }: WaitingRequest) => (outcomeUnknown ? 'unknown' : 'not_written')

/** Answers with an error, at most once: several parts of a split request can fail. */
function answerError(request: WaitingRequest, error: Problem): void {
  if (request.pendingRows <= 0) return
  request.pendingRows = 0
  request.done(error, [])
}

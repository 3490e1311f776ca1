import type { RowOutcome } from '../data/record-store.ts'
import type { Rows } from '../postgres/row.ts'
import { classifyFailure, sqlstateOf } from '../postgres/sqlstate.ts'
import { Problem, type ProblemCode } from '../problems.ts'

/** Rows that wait to be written, and whom to tell: those of a request, or of a chunk of a stream of lines. */
export interface WaitingRequest {
  /** The id of the API key it was sent with. */
  key: string
  /** At least one. */
  rows: Rows
  /** The size of the body. */
  bytes: number
  /** Whether all rows are stored or none. */
  strict: boolean
  /** On the clock of performance.now(), as is `deadline`. */
  arrivedAt: number
  /** The end of the hold window. A request that is withdrawn, or whose writer gives up, gets an earlier one. */
  deadline: number
  /** The error for the client if the request was withdrawn. No further statement with its rows is sent. */
  withdrawn?: Problem
  /** Whether its rows may be stored, because it is not certain that every try was rolled back. */
  outcomeUnknown: boolean
  outcomes: RowOutcome[]
  /** Rows without an outcome. 0: the request is answered, with outcomes or an error. */
  pendingRows: number
  trace: unknown
  /** Called once, with an error or with one outcome per row. */
  done: (error: Problem | undefined, outcomes: RowOutcome[]) => void
}

/** SQLSTATE disk_full */
const DISK_FULL = '53100'

/**
 * Answers a request that is withdrawn or whose hold window is over.
 * @param cause the last failure of its flush, or of the database during an outage; undefined if there was none
 */
export function answerUnfinished(request: WaitingRequest, cause: unknown): void {
  if (request.withdrawn !== undefined) {
    const { code, message, headers } = request.withdrawn
    answerError(request, new Problem(code, message, { outcome: outcomeOf(request), headers }))
    return
  }
  const [code, reason] = expiryReason(request, cause)
  const advice = request.outcomeUnknown
    ? 'The records may be stored. Send the request again: records with an `id`, or of a request with an `Idempotency-Key`, are stored once.'
    : 'Send the request again.'
  answerError(request, new Problem(code, `${reason} ${advice}`, { outcome: outcomeOf(request), cause }))
}

function expiryReason(request: WaitingRequest, cause: unknown): [ProblemCode, string] {
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

/** Does nothing if the request is answered: several parts of a split request can fail. */
function answerError(request: WaitingRequest, error: Problem): void {
  if (request.pendingRows === 0) return
  request.pendingRows = 0
  request.done(error, [])
}

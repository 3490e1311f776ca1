import { type RowOutcome, rejectedBy } from '../data/record-store.ts'
import type { Rows } from '../postgres/row.ts'
import { classifyFailure, sqlstateOf } from '../postgres/sqlstate.ts'
import { Problem, type ProblemCode } from '../problems.ts'

// Waiting requests of the writer (writer.ts), and the parts of them that make up a flush.

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

/** The rows of a waiting request from `from` to before `to`. A split may cut a request in two. */
export interface Part {
  request: WaitingRequest
  from: number
  to: number
}

export const isOpen = ({ request }: Part): boolean => request.pendingRows > 0

export const isStrict = (parts: Part[]): boolean => parts[0]?.request.strict === true

export const rowsOf = ({ request, from, to }: Part): Rows =>
  from === 0 && to === request.rows.length ? request.rows : request.rows.slice(from, to)

export const bytesOf = (parts: Part[]): number =>
  parts.reduce((sum, { request, from, to }) => sum + (request.bytes * (to - from)) / request.rows.length, 0)

export const countRows = (parts: readonly Part[]): number => parts.reduce((sum, { from, to }) => sum + to - from, 0)

function halve(parts: Part[]): [Part[], Part[]] {
  const total = countRows(parts)
  const halves: [Part[], Part[]] = [[], []]
  let room = Math.ceil(total / 2)
  for (const { request, from, to } of parts) {
    const cut = Math.min(to, from + room)
    room -= cut - from
    if (cut > from) halves[0].push({ request, from, to: cut })
    if (to > cut) halves[1].push({ request, from: cut, to })
  }
  return halves
}

/**
 * Narrows a piece down to the row at fault.
 * @returns the two halves of the piece; none for a piece of one row, which is rejected
 */
export function isolateBadRow(parts: Part[], error: unknown): Part[][] {
  const [first, second] = halve(parts)
  if (second.length > 0) return [first, second]
  setOutcomes(first[0] as Part, [rejectedBy(error)], 0)
  return []
}

/** Sets the outcomes of a part, which start at `at` in `outcomes`. The request is answered as soon as all its rows have one. */
export function setOutcomes({ request, from, to }: Part, outcomes: readonly RowOutcome[], at: number): void {
  // The request was already answered with an error.
  if (request.pendingRows <= 0) return
  for (let index = from; index < to; index++) request.outcomes[index] = outcomes[at + index - from] as RowOutcome
  request.pendingRows -= to - from
  if (request.pendingRows === 0) request.done(undefined, request.outcomes)
}

/**
 * Notes that a statement with these parts is about to be sent.
 * @returns a function to call if the statement is known to be rolled back: it restores what was known of each request before
 */
export function noteSent(parts: Part[]): () => void {
  const certain = parts.filter(({ request }) => !request.outcomeUnknown)
  for (const { request } of certain) request.outcomeUnknown = true
  return () => {
    for (const { request } of certain) request.outcomeUnknown = false
  }
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

import type { RowOutcome } from '../data/record-store.ts'
import type { Rows } from '../data/row.ts'
import { classifyFailure, sqlstateOf } from '../data/sqlstate.ts'
import { Problem, type ProblemCode } from '../lib/problems.ts'

// What the writer (writer.ts) has in its hands: requests that wait, and the parts of them that make a flush.

/** A request between its arrival and its answer. */
export interface Waiting {
  /** The id of the API key that sent it. */
  key: string
  rows: Rows
  bytes: number
  strict: boolean
  /** When the hold window closes, in the clock of performance.now(). */
  deadline: number
  /** Why no further statement with its rows is sent; undefined: it was not withdrawn. */
  withdrawn?: Problem
  /** Statements with its rows were sent, and not all of them are known to be rolled back: something may be written. */
  outcomeUnknown: boolean
  outcomes: RowOutcome[]
  /** Outcomes still to come. */
  missing: number
  trace: unknown
  done: (error: unknown, outcomes: RowOutcome[]) => void
}

/** Rows `from` to `to` of a waiting request; a split cuts within a request. */
export interface Part {
  request: Waiting
  from: number
  to: number
}

export const isOpen = ({ request }: Part): boolean => request.missing > 0

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

/** A row is at fault: the two halves; of a piece that is one row, none, and that row is refused. */
export function split(parts: Part[], error: unknown): Part[][] {
  const [first, second] = halve(parts)
  if (second.length > 0) return [first, second]
  answer(first[0] as Part, [{ status: 'refused', sqlstate: sqlstateOf(error) as string }], 0)
  return []
}

/** Gives a part its outcomes, from place `at` on; the request is answered with the last of them. */
export function answer({ request, from, to }: Part, outcomes: readonly RowOutcome[], at: number): void {
  // Told meanwhile that its time was up.
  if (request.missing <= 0) return
  for (let index = from; index < to; index++) request.outcomes[index] = outcomes[at + index - from] as RowOutcome
  request.missing -= to - from
  if (request.missing === 0) request.done(undefined, request.outcomes)
}

/**
 * A statement with these parts is about to be sent.
 * @returns what to call once it is known to be rolled back: the outcome of each request is then what it was before
 */
export function noteSent(parts: Part[]): () => void {
  const certain = parts.filter(({ request }) => !request.outcomeUnknown)
  for (const { request } of certain) request.outcomeUnknown = true
  return () => {
    for (const { request } of certain) request.outcomeUnknown = false
  }
}

/** disk_full */
const DISK_FULL = '53100'

/**
 * Its time is up.
 * @param cause the last failure, of its flush or of the database; undefined: there was none, it waited for its turn
 */
export function answerLate(request: Waiting, cause: unknown): void {
  if (request.withdrawn !== undefined) {
    const { code, message, headers } = request.withdrawn
    answerError(request, new Problem(code, message, { outcome: outcomeOf(request), headers }))
    return
  }
  const [code, why] = whyLate(request, cause)
  const whatNow = request.outcomeUnknown
    ? 'The records may be stored. Sending the same request again is safe: its records are stored once.'
    : 'Send the request again.'
  answerError(request, new Problem(code, `${why} ${whatNow}`, { outcome: outcomeOf(request), cause }))
}

function whyLate(request: Waiting, cause: unknown): [ProblemCode, string] {
  if (sqlstateOf(cause) === DISK_FULL) return ['storage_full', 'The database has no space left on its disk.']
  if (cause !== undefined && classifyFailure(cause).away) return ['database_unavailable', 'The database is away.']
  if (cause !== undefined || request.outcomeUnknown)
    return ['database_unavailable', 'The database did not finish the write in time.']
  return ['overloaded', 'No turn at the database came in time: it is slow, or more arrives than it can take.']
}

export function answerDefect(request: Waiting, cause: unknown): void {
  const detail = 'The records could not be written. The log has the reason, under this requestId.'
  answerError(request, new Problem('internal_error', detail, { outcome: outcomeOf(request), cause }))
}

const outcomeOf = ({ outcomeUnknown }: Waiting) => (outcomeUnknown ? 'unknown' : 'not_written')

/** At most once: a request that was split can fail in several places. */
function answerError(request: Waiting, error: Problem): void {
  if (request.missing <= 0) return
  request.missing = 0
  request.done(error, [])
}

import { type RowOutcome, rejectedBy } from '../data/record-store.ts'
import type { Rows } from '../postgres/row.ts'
import type { WaitingRequest } from './waiting-request.ts'

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

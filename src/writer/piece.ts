import { type RowOutcome, rejectedBy } from '../data/record-store.ts'
import type { Rows } from '../postgres/row.ts'
import type { WaitingRequest } from './waiting-request.ts'

/**
 * A piece is what one transaction writes: parts of requests, in order. The first piece of a flush has all its requests. If a row is
 * at fault, the piece is halved, which may cut a request into parts in both halves.
 */
export type Piece = readonly Part[]

/** Rows `from` (inclusive) to `to` (exclusive) of a request. */
export interface Part {
  request: WaitingRequest
  from: number
  to: number
}

/**
 * Notes that a piece is about to be sent.
 * @returns a function to call if the try certainly wrote nothing: it restores what was known of each request before
 */
export function noteSent(piece: Piece): () => void {
  const certain = piece.filter(({ request }) => !request.outcomeUnknown)
  for (const { request } of certain) request.outcomeUnknown = true
  return () => {
    for (const { request } of certain) request.outcomeUnknown = false
  }
}

/** Sets the outcomes of a part, which start at `at` in `outcomes`. The request is answered as soon as all its rows have one. */
export function setOutcomes({ request, from, to }: Part, outcomes: readonly RowOutcome[], at: number): void {
  // The request was already answered with an error.
  if (request.pendingRows === 0) return
  for (let index = from; index < to; index++) request.outcomes[index] = outcomes[at + index - from] as RowOutcome
  request.pendingRows -= to - from
  if (request.pendingRows === 0) request.done(undefined, request.outcomes)
}

/**
 * Halves a piece in which a row is at fault. A piece of one row is not halved: its row is rejected.
 * @returns the pieces that remain to be written
 */
export function splitOrReject(piece: Piece, error: unknown): Piece[] {
  const [first, second] = halve(piece)
  if (second.length > 0) return [first, second]
  setOutcomes(first[0] as Part, [rejectedBy(error)], 0)
  return []
}

function halve(piece: Piece): [Piece, Piece] {
  const halves: [Part[], Part[]] = [[], []]
  let room = Math.ceil(countRows(piece) / 2)
  for (const { request, from, to } of piece) {
    const cut = Math.min(to, from + room)
    room -= cut - from
    if (cut > from) halves[0].push({ request, from, to: cut })
    if (to > cut) halves[1].push({ request, from: cut, to })
  }
  return halves
}

export const isOpen = ({ request }: Part): boolean => request.pendingRows > 0

export const isStrict = (piece: Piece): boolean => piece[0]?.request.strict === true

export const countRows = (piece: Piece): number => piece.reduce((sum, { from, to }) => sum + to - from, 0)

export const bytesOf = (piece: Piece): number =>
  piece.reduce((sum, { request, from, to }) => sum + (request.bytes * (to - from)) / request.rows.length, 0)

export const rowsOf = ({ request, from, to }: Part): Rows =>
  from === 0 && to === request.rows.length ? request.rows : request.rows.slice(from, to)

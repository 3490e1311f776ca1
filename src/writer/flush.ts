import type { FlushBase, RecordStore } from '../data/record-store.ts'
import { joinRows } from '../postgres/packed-rows.ts'
import { classifyFailure } from '../postgres/sqlstate.ts'
import type { Outage } from './outage.ts'
import {
  bytesOf,
  countRows,
  isOpen,
  isStrict,
  noteSent,
  type Piece,
  rowsOf,
  setOutcomes,
  splitOrReject,
} from './piece.ts'
import { answerDefect, answerUnfinished, type WaitingRequest } from './waiting-request.ts'

/**
 * A flush writes the rows of its requests, and runs until all of them are answered. It has one of these states:
 *
 *   writing ──committed─────────────────────────────▶ writing the next piece
 *      │ ├────a row is at fault─────────────────────▶ writing the first half of the piece, and then the second half
 *      │ ├────the database is unavailable or busy───▶ holding the piece; if all its requests are answered, writing the next one
 *      │ ├────any other failure─────────────────────▶ its requests get the error; writing the next piece
 *      │ └────no piece is left──────────────────────▶ ended
 *   holding ──the pause or a hold window is over────▶ writing the same piece, with the same base
 *           └─the database is available again───────▶ the same, at once
 *
 * At first, the whole flush is one piece. Pieces are halved until the row at fault is alone, and only that row is rejected.
 * A strict request is a flush of its own and is never halved: the store reports its rows at fault as outcomes, and a row error
 * fails it as any other failure does.
 *
 * A piece that is sent again keeps its `base`: with it, the store recognises rows that an earlier try committed, so each
 * request gets the exact result. A pause is measured from the start of one try to the start of the next, and pauses grow. After
 * a try that took longer than its pause, the next one starts at once.
 *
 * Before each try, the outcome of its requests becomes unknown. If the try certainly wrote nothing, it is again what it was
 * before. A request leaves the piece when it is withdrawn, or when a try fails after the end of its hold window; its rows are not
 * sent again. The other requests stay.
 */
type State = 'writing' | 'holding' | 'ended'

/** What a flush needs from its writer. */
export interface FlushContext {
  store: RecordStore
  outage: Outage
  /** Whether requests no longer wait for an unavailable database, because the process shuts down. */
  isClosing: () => boolean
  /** Called after each write that returned outcomes. `bytes` is the size of the bodies; a request that was split counts in proportion. */
  onFlush: (flush: { rows: number; requests: number; bytes: number; milliseconds: number }) => void
  /** Called when a piece failed for a temporary reason and will be sent again. */
  onRetry: () => void
}

const FIRST_PAUSE_MS = 25
/**
 * The writer notices that the database is available again within this time plus the time of a login, or within a second if
 * the connection attempt that was running at that moment is lost (postgres/connect.ts).
 */
const MAX_PAUSE_MS = 500

export class Flush {
  #state: State = 'writing'
  /** The pieces that remain to be written. The first one is the current one. */
  readonly #pieces: Piece[]
  readonly #context: FlushContext
  #endPause = () => {}

  constructor(requests: readonly WaitingRequest[], context: FlushContext) {
    this.#pieces = [requests.map((request) => ({ request, from: 0, to: request.rows.length }))]
    this.#context = context
  }

  get state(): State {
    return this.#state
  }

  /** Number of rows of the current piece, also of requests that have left it. */
  get rows(): number {
    return countRows(this.#pieces[0] ?? [])
  }

  /** The requests that are not answered yet. */
  get requests(): Set<WaitingRequest> {
    return new Set(this.#pieces.flatMap((piece) => piece.filter(isOpen).map(({ request }) => request)))
  }

  /** Writes the pieces, one after the other, until all requests are answered. Never rejects. */
  async run(): Promise<void> {
    for (let piece = this.#pieces[0]; piece !== undefined; piece = this.#pieces[0]) {
      const halves = await this.#writePiece(piece)
      this.#pieces.splice(0, 1, ...halves)
    }
    this.#change('writing', 'ended')
  }

  /** Ends the pause of a holding flush. Does nothing in the other states. */
  wake(): void {
    this.#endPause()
  }

  /** @returns the pieces that remain to be written: both halves if a row is at fault, otherwise none */
  async #writePiece(piece: Piece): Promise<Piece[]> {
    const { store, outage, onRetry } = this.#context
    const base = store.newBase()
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, MAX_PAUSE_MS)) {
      for (const { request } of piece) if (request.withdrawn !== undefined) answerUnfinished(request, undefined)
      const parts = piece.filter(isOpen)
      if (parts.length === 0) return []
      // Half of each pause is random, so that the instances do not all retry at the same moment.
      const nextTryAt = performance.now() + pause * (0.5 + Math.random() / 2)
      const noteRolledBack = noteSent(parts)
      try {
        await this.#write(parts, base)
        outage.noteResponse()
        return []
      } catch (error) {
        const failure = classifyFailure(error)
        if (failure.written === 'no') noteRolledBack()
        if (failure.unavailable) outage.noteFailure(error)
        else outage.noteResponse()
        if (failure.kind === 'row' && !isStrict(parts)) return splitOrReject(parts, error)
        if (failure.kind !== 'transient') {
          for (const { request } of parts) answerDefect(request, error)
          return []
        }
        onRetry()
        this.#answerExpired(parts, error, failure.unavailable)
        await this.#hold(parts.filter(isOpen), nextTryAt)
      }
    }
  }

  async #write(piece: Piece, base: FlushBase): Promise<void> {
    const { store, onFlush } = this.#context
    const rows = joinRows(piece.map(rowsOf))
    const started = performance.now()
    const outcomes = await (isStrict(piece) ? store.writeStrict(rows, base) : store.write(rows, base))
    const milliseconds = performance.now() - started
    onFlush({ rows: rows.length, requests: piece.length, bytes: bytesOf(piece), milliseconds })
    let at = 0
    for (const part of piece) {
      setOutcomes(part, outcomes, at)
      at += part.to - part.from
    }
  }

  /** After a failed try, answers the requests whose hold window is over; during a shutdown, all that would wait for the database. */
  #answerExpired(piece: Piece, error: unknown, isUnavailable: boolean): void {
    const now = performance.now()
    const isLast = this.#context.isClosing() && isUnavailable
    for (const { request } of piece) if (isLast || request.deadline <= now) answerUnfinished(request, error)
  }

  /** Waits until the next try: for its time, for the next deadline, or for the end of the outage. */
  async #hold(parts: Piece, nextTryAt: number): Promise<void> {
    if (parts.length === 0) return
    this.#change('writing', 'holding')
    const until = Math.min(nextTryAt, ...parts.map(({ request }) => request.deadline))
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, Math.max(0, until - performance.now()))
      this.#endPause = () => {
        clearTimeout(timer)
        resolve()
      }
    })
    this.#endPause = () => {}
    this.#change('holding', 'writing')
  }

  #change(from: State, to: State): void {
    if (this.#state !== from) throw new Error(`a flush that is ${this.#state} cannot change from ${from} to ${to}`)
    this.#state = to
  }
}

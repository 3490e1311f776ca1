import type { FlushBase, RecordStore } from '../data/record-store.ts'
import { joinRows } from '../postgres/packed-rows.ts'
import { classifyFailure } from '../postgres/sqlstate.ts'
import type { Outage } from './outage.ts'
import {
  bytesOf,
  countRows,
  isOpen,
  isolateBadRow,
  isStrict,
  noteSent,
  type Part,
  rowsOf,
  setOutcomes,
} from './piece.ts'
import { answerDefect, answerLate, type WaitingRequest } from './waiting-request.ts'

/**
 * A flush writes the rows of its requests, and runs until all of them are answered. It has one of these states:
 *
 *   writing ──committed─────────────────────────────▶ writing the next piece; ended if it was the last one
 *      │ ├────a row is at fault─────────────────────▶ writing the first half of the piece, and then the second half
 *      │ ├────the database is unavailable or busy───▶ holding; if no request of the piece is left, as after a commit
 *      │ └────any other failure─────────────────────▶ as after a commit; the piece's requests get the error
 *   holding ──the pause or a hold window is over────▶ writing the same piece, with the same base
 *           └─the database is available again───────▶ the same, at once
 *
 * At first, the whole flush is one piece. Pieces are halved until the row at fault is alone, and only that row is rejected.
 * A strict request is a flush of its own and is never halved.
 *
 * A piece that is sent again keeps its `base`: with it, the store recognises rows that an earlier try committed, so each
 * request gets the exact result. A pause is measured from the start of one try to the start of the next, and pauses grow. After
 * a try that took longer than its pause, the next one starts at once.
 *
 * The outcome of a request is unknown from the moment when a statement with its rows is sent until PostgreSQL reports that
 * the statement was rolled back. A request leaves the piece, and its rows are not sent again, when it is withdrawn or its hold
 * window is over. The other requests stay.
 */
type State = 'writing' | 'holding' | 'ended'

/** What a flush uses of its writer. */
export interface FlushContext {
  store: RecordStore
  outage: Outage
  /** Whether requests no longer wait for an unavailable database, because the process shuts down. */
  isClosing: () => boolean
  /** Called once for each committed piece. `bytes` is the size of the bodies; a request that was split counts in proportion. */
  onFlush: ((flush: { rows: number; requests: number; bytes: number; milliseconds: number }) => void) | undefined
  /** Called when a piece failed for a temporary reason and will be sent again. */
  onRetry: (() => void) | undefined
}

const FIRST_PAUSE_MS = 25
/**
 * The writer notices that the database is available again within this time plus the time of a login, or within a second if
 * the connection attempt that was running at that moment is lost (postgres/connect.ts).
 */
const MAX_PAUSE_MS = 500

export class Flush {
  #state: State = 'writing'
  /** The first piece is being written. The others come after it. */
  readonly #pieces: Part[][]
  readonly #context: FlushContext
  #endPause = () => {}

  constructor(requests: readonly WaitingRequest[], context: FlushContext) {
    this.#pieces = [requests.map((request) => ({ request, from: 0, to: request.rows.length }))]
    this.#context = context
  }

  get state(): State {
    return this.#state
  }

  /** Number of rows of the piece that is being written. */
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
  async #writePiece(piece: Part[]): Promise<Part[][]> {
    const { store, outage, onRetry } = this.#context
    const base = store.newBase()
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, MAX_PAUSE_MS)) {
      for (const { request } of piece) if (request.withdrawn !== undefined) answerLate(request, undefined)
      const parts = piece.filter(isOpen)
      if (parts.length === 0) return []
      // Half of each pause is random, so that the instances do not all retry at the same moment.
      const next = performance.now() + pause * (0.5 + Math.random() / 2)
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
        if (failure.kind === 'row' && !isStrict(parts)) return isolateBadRow(parts, error)
        if (failure.kind !== 'transient') {
          for (const { request } of parts) answerDefect(request, error)
          return []
        }
        onRetry?.()
        this.#answerExpired(parts, error, failure.unavailable)
        await this.#hold(parts.filter(isOpen), next)
      }
    }
  }

  async #write(parts: Part[], base: FlushBase): Promise<void> {
    const { store, onFlush } = this.#context
    const rows = joinRows(parts.map(rowsOf))
    const started = performance.now()
    const outcomes = await (isStrict(parts) ? store.writeStrict(rows, base) : store.write(rows, base))
    const milliseconds = performance.now() - started
    onFlush?.({ rows: rows.length, requests: parts.length, bytes: bytesOf(parts), milliseconds })
    let at = 0
    for (const part of parts) {
      const next = at + part.to - part.from
      setOutcomes(part, outcomes, at)
      at = next
    }
  }

  /** Answers the requests that wait no longer after a failed try. */
  #answerExpired(parts: Part[], error: unknown, isUnavailable: boolean): void {
    const now = this.#context.isClosing() && isUnavailable ? Number.POSITIVE_INFINITY : performance.now()
    for (const { request } of parts) if (request.deadline <= now) answerLate(request, error)
  }

  /** Waits for the time of the next try, for the next deadline, or for the end of the outage. */
  async #hold(parts: Part[], next: number): Promise<void> {
    if (parts.length === 0) return
    this.#change('writing', 'holding')
    const until = Math.min(next, ...parts.map(({ request }) => request.deadline))
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, Math.max(0, until - performance.now()))
      this.#endPause = () => {
        clearTimeout(timer)
        resolve()
      }
    })
    this.#change('holding', 'writing')
  }

  #change(from: State, to: State): void {
    if (this.#state !== from) throw new Error(`a flush that is ${this.#state} cannot change from ${from} to ${to}`)
    this.#state = to
  }
}

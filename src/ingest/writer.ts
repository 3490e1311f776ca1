import { joinRows } from '../data/packed-rows.ts'
import type { RecordStore } from '../data/record-store.ts'
import type { Rows } from '../data/row.ts'
import { classifyFailure } from '../data/sqlstate.ts'
import { Problem } from '../lib/problems.ts'
import { FairQueue } from './fair-queue.ts'
import {
  answer,
  answerDefect,
  answerLate,
  bytesOf,
  countRows,
  isOpen,
  isStrict,
  noteSent,
  type Part,
  rowsOf,
  split,
  type Waiting,
} from './waiting.ts'

/**
 * The writer turns many waiting requests into few transactions.
 *
 * A request (its checked rows) waits in a queue, in which the API keys take turns (fair-queue.ts). A flush takes requests from
 * it, whole, until a bound on rows or bytes is reached, and is written in one transaction. The load decides how many: a lone request is flushed at
 * once, and while flushes are at the database whatever arrives becomes the next one. A second one beside the first begins
 * when it is as large as that one, since many small ones cost more than a few; or after a moment, since the first may be
 * stuck.
 *
 * A flush is in one of these states:
 *
 *   writing ──committed─────────────────────▶ writing its next piece; ended, when that was the last
 *      │ ├───a row is at fault──────────────▶ writing the first half of the piece, the second comes after it
 *      │ ├───the database is away, or busy──▶ holding
 *      │ └───anything else──────────────────▶ writing its next piece, or ended; the piece's requests get the error
 *   holding ──the pause is over─────────────▶ writing the same piece, under the same base
 *           ──the database is back──────────▶ the same, at once
 *           ──no request is left────────────▶ writing its next piece, or ended
 *
 * A piece is all of the flush to begin with. Halved again and again, it comes down to the guilty row, which alone is
 * refused. A strict request is a flush by itself, and never halved.
 *
 * A piece that is sent again keeps its `base`: the store recognises rows that an earlier try had committed after all as
 * this piece's own, so each request gets the exact answer. Pauses count from the beginning of one try to the next, and
 * grow: a try that took its time was pause enough.
 *
 * What a request's outcome is follows from what was begun, not from how it ended: it is unknown from the moment when a
 * statement with its rows is sent, until PostgreSQL says that the statement was rolled back.
 *
 * A request leaves with 503 when the hold window, which begins with its arrival, is over: in the queue and while its
 * flush holds, at once; while its flush is writing, after a moment of grace, since that try may still give the exact
 * answer. Its rows may be stored then; the flush goes on without it. Its neighbours have their own time. A request that is
 * withdrawn leaves in the same way, from a flush that holds when its pause is over, and no further statement with its rows is sent.
 *
 * The database is away from the first failure that says so until the first answer of any kind. While it is away and
 * nothing is there to be written, the writer asks for it.
 */

export interface WriterOptions {
  /** A flush takes no further request once it has as many rows. */
  maxRows: number
  /** … or as many bytes. */
  maxBytes: number
  /** Flushes at the store at once. */
  concurrency: number
  /** How long a request waits while the database is away, in milliseconds. */
  holdMs: number
  /** Called when the database goes away (with the error) and when it is back (without). */
  onOutage?: (error?: unknown) => void
  /** Called once for each committed flush. `bytes` are those of the bodies; of one that was cut, its share. */
  onFlush?: (flush: { rows: number; requests: number; bytes: number; milliseconds: number }) => void
  /** Called when a flush failed for no fault of its own, and is to be sent again. */
  onRetry?: () => void
  /** Where flushes are traced: knows the request at whose hands rows come, and is around the work of each flush. */
  traces?: {
    current(): unknown
    flush(requests: readonly unknown[], rows: number, work: () => Promise<void>): Promise<void>
  }
}

/** How it stands, for those who watch. */
export interface WriterStatus {
  /** Requests without an answer. */
  waiting: number
  /** How long the oldest of them has waited, in milliseconds; 0 when there is none. */
  oldestMs: number
  /** Flushes by their state. */
  writing: number
  holding: number
}

/** What one of the two is at a time; see above. */
type State = 'writing' | 'holding' | 'ended'

interface Flush {
  state: State
  /** The first is the one that is written; the others wait for it. */
  pieces: Part[][]
  /** Ends the pause of one that holds. */
  wake: () => void
}

const TRANSITIONS: Record<State, readonly State[]> = {
  writing: ['writing', 'holding', 'ended'],
  holding: ['writing', 'ended'],
  ended: [],
}

/** How long a flush that is smaller than those under way waits to grow. About as long as a commit takes on a slow disk. */
const GROW_MS = 10
const FIRST_PAUSE_MS = 25
/**
 * The return of the database is noticed within this and the time of a login; within a second, when the try that was under
 * way then is lost (data/connect.ts).
 */
const LONGEST_PAUSE_MS = 500
/** How long after the hold window a request waits for the try that is under way. */
const GRACE_MS = 2_000
/** How often deadlines are looked at; those of requests that hold are kept to the millisecond. */
const WATCH_MS = 500

export class Writer {
  readonly #store: RecordStore
  readonly #options: WriterOptions
  readonly #queue = new FairQueue()
  readonly #flushes = new Set<Flush>()
  readonly #whenIdle: (() => void)[] = []
  #scheduled = false
  /** Runs while a flush waits to grow. */
  #growing: NodeJS.Timeout | undefined
  #closing = false
  #away = false
  /** The last failure that said so. */
  #awayBecause: unknown
  #asking = false
  /** Runs while requests wait, and while the database is away. */
  #watch: NodeJS.Timeout | undefined

  constructor(store: RecordStore, options: WriterOptions) {
    this.#store = store
    this.#options = options
  }

  /**
   * Hands over a request's rows; none of its bytes are counted here, the body's reservation does that (lib/budget.ts).
   * @param done called once: after the commit with one outcome a row, or with a Problem or a defect
   * @returns a function that withdraws the request, for the reason that is given. What was not sent to PostgreSQL is not
   * written; a try under way has GRACE_MS left.
   */
  submit(
    request: { key: string; rows: Rows; bytes: number; strict: boolean },
    done: Waiting['done'],
  ): (why: Problem) => void {
    if (this.#closing) {
      done(new Problem('draining', 'This instance is shutting down; send the request again.'), [])
      return () => {}
    }
    const waiting: Waiting = {
      ...request,
      deadline: performance.now() + this.#options.holdMs,
      outcomeUnknown: false,
      outcomes: new Array(request.rows.length),
      missing: request.rows.length,
      trace: this.#options.traces?.current(),
      done,
    }
    this.#queue.push(waiting)
    this.#watch ??= setInterval(() => this.#look(), WATCH_MS)
    this.#schedule()
    return (why) => this.#withdraw(waiting, why)
  }

  #withdraw(request: Waiting, why: Problem): void {
    request.withdrawn = why
    request.deadline = Math.min(request.deadline, performance.now())
    if (this.#queue.remove(request)) answerLate(request, undefined)
  }

  get status(): WriterStatus {
    const flushes = [...this.#flushes]
    const written = new Set(flushes.flatMap(({ pieces }) => pieces.flat().filter(isOpen)).map(({ request }) => request))
    const candidates = [...written, ...this.#queue.heads]
    const first = Math.min(...candidates.map(({ deadline }) => deadline))
    return {
      waiting: written.size + this.#queue.length,
      oldestMs: candidates.length === 0 ? 0 : performance.now() - first + this.#options.holdMs,
      writing: flushes.filter(({ state }) => state === 'writing').length,
      holding: flushes.filter(({ state }) => state === 'holding').length,
    }
  }

  /** Refuses new requests, and ends the wait of the others as if their time were up: a try under way has GRACE_MS left. */
  giveUp(): void {
    this.#closing = true
    const now = performance.now()
    const open = [...this.#flushes].flatMap(({ pieces }) => pieces.flat()).map(({ request }) => request)
    for (const request of [...this.#queue.all, ...open]) request.deadline = Math.min(request.deadline, now)
  }

  /** Refuses new requests, and resolves when all that were handed over are answered. */
  async close(): Promise<void> {
    this.#closing = true
    if (!this.#isIdle()) await new Promise<void>((resolve) => this.#whenIdle.push(resolve))
    this.#stopWatch()
  }

  /** At the end of the turn of the event loop, so that requests which arrived together share a flush. */
  #schedule(): void {
    if (this.#scheduled || this.#flushes.size >= this.#options.concurrency) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#startFlushes()
    })
  }

  #startFlushes(): void {
    while (this.#flushes.size < this.#options.concurrency && this.#queue.length > 0) {
      if (this.#isSmall()) {
        this.#growing ??= setTimeout(() => this.#endGrowing(), GROW_MS)
        return
      }
      this.#startFlush()
    }
  }

  #startFlush(): void {
    clearTimeout(this.#growing)
    this.#growing = undefined
    const flush: Flush = { state: 'writing', pieces: [this.#takeRequests()], wake: () => {} }
    this.#flushes.add(flush)
    void this.#runTraced(flush).then(() => {
      this.#flushes.delete(flush)
      this.#startFlushes()
      this.#noteIdle()
    })
  }

  /** Is what waits less than each of the flushes under way, and less than one may hold? */
  #isSmall(): boolean {
    if (this.#flushes.size === 0) return false
    const sizes = [...this.#flushes].map(({ pieces }) => countRows(pieces[0] ?? []))
    return this.#queue.rows < Math.min(this.#options.maxRows, ...sizes)
  }

  #endGrowing(): void {
    this.#growing = undefined
    if (this.#flushes.size < this.#options.concurrency && this.#queue.length > 0) this.#startFlush()
  }

  #takeRequests(): Part[] {
    const { maxRows, maxBytes } = this.#options
    return this.#queue.take(maxRows, maxBytes).map((request) => ({ request, from: 0, to: request.rows.length }))
  }

  #runTraced(flush: Flush): Promise<void> {
    const { traces } = this.#options
    if (traces === undefined) return this.#run(flush)
    const requests = (flush.pieces[0] as Part[]).map(({ request }) => request)
    const rows = requests.reduce((sum, request) => sum + request.rows.length, 0)
    return traces.flush(
      requests.map(({ trace }) => trace),
      rows,
      () => this.#run(flush),
    )
  }

  /** Writes the flush's pieces, one after the other, until each request is answered. Never rejects. */
  async #run(flush: Flush): Promise<void> {
    for (let piece = flush.pieces[0]; piece !== undefined; piece = flush.pieces[0]) {
      const halves = await this.#writePiece(flush, piece)
      flush.pieces.splice(0, 1, ...halves)
      enter(flush, flush.pieces.length > 0 ? 'writing' : 'ended')
    }
  }

  /** @returns what is left to be written of it: its halves, when a row is at fault */
  async #writePiece(flush: Flush, piece: Part[]): Promise<Part[][]> {
    const base = this.#store.newBase()
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      for (const { request } of piece) if (request.withdrawn !== undefined) answerLate(request, undefined)
      const parts = piece.filter(isOpen)
      if (parts.length === 0) return []
      // Half of each pause is chance: instances that lost the same database do not all return in the same instant.
      const next = performance.now() + pause * (0.5 + Math.random() / 2)
      const noteRolledBack = noteSent(parts)
      try {
        await this.#write(parts, base)
        this.#noteBack()
        return []
      } catch (error) {
        const failure = classifyFailure(error)
        if (failure.written === 'no') noteRolledBack()
        if (failure.kind !== 'transient') {
          // An answer is an answer.
          this.#noteBack()
          if (failure.kind === 'row' && !isStrict(parts)) return split(parts, error)
          for (const { request } of parts) answerDefect(request, error)
          return []
        }
        this.#options.onRetry?.()
        if (failure.away) this.#noteAway(error)
        else this.#noteBack()
        // Nobody can wait for a database that is away while the process ends.
        const now = this.#closing && failure.away ? Number.POSITIVE_INFINITY : performance.now()
        for (const { request } of parts) if (request.deadline <= now) answerLate(request, error)
        await hold(flush, parts.filter(isOpen), next)
      }
    }
  }

  async #write(parts: Part[], base: number): Promise<void> {
    const rows = joinRows(parts.map(rowsOf))
    const started = performance.now()
    const outcomes = await (isStrict(parts) ? this.#store.writeStrict(rows, base) : this.#store.write(rows, base))
    const milliseconds = performance.now() - started
    this.#options.onFlush?.({ rows: rows.length, requests: parts.length, bytes: bytesOf(parts), milliseconds })
    let at = 0
    for (const part of parts) {
      const next = at + part.to - part.from
      answer(part, outcomes, at)
      at = next
    }
  }

  /** The first failure of an outage. */
  #noteAway(error: unknown): void {
    this.#awayBecause = error
    if (this.#away) return
    this.#away = true
    this.#options.onOutage?.(error)
  }

  /** The database answered: those that pause need not wait any longer. */
  #noteBack(): void {
    if (!this.#away) return
    this.#away = false
    this.#awayBecause = undefined
    this.#options.onOutage?.()
    for (const flush of this.#flushes) flush.wake()
  }

  /** Answers those whose time is up, and asks for a database that nobody else is waiting for. */
  #look(): void {
    const now = performance.now()
    for (const request of this.#queue.takeLate(now)) answerLate(request, this.#awayBecause)
    for (const { pieces } of this.#flushes) {
      for (const { request } of pieces.flat())
        if (request.deadline + GRACE_MS <= now) answerLate(request, this.#awayBecause)
    }
    this.#noteIdle()
    if (this.#isIdle() && this.#away) this.#ask()
    else if (this.#isIdle()) this.#stopWatch()
  }

  #ask(): void {
    if (this.#asking) return
    this.#asking = true
    void this.#store
      .ping()
      .then(
        () => this.#noteBack(),
        () => {},
      )
      .finally(() => {
        this.#asking = false
      })
  }

  #isIdle(): boolean {
    return this.#flushes.size === 0 && this.#queue.length === 0
  }

  #noteIdle(): void {
    if (this.#isIdle()) for (const resolve of this.#whenIdle.splice(0)) resolve()
  }

  #stopWatch(): void {
    clearInterval(this.#watch)
    clearTimeout(this.#growing)
    this.#watch = undefined
  }
}

function enter(flush: Flush, state: State): void {
  if (!TRANSITIONS[flush.state].includes(state)) throw new Error(`a flush that is ${flush.state} is to be ${state}`)
  flush.state = state
}

/** Until it is time for the next try, the next deadline has come, or the database is back. */
async function hold(flush: Flush, parts: Part[], next: number): Promise<void> {
  if (parts.length === 0) return
  enter(flush, 'holding')
  const until = Math.min(next, ...parts.map(({ request }) => request.deadline))
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, Math.max(0, until - performance.now()))
    flush.wake = () => {
      clearTimeout(timer)
      resolve()
    }
  })
  flush.wake = () => {}
  enter(flush, 'writing')
}

import type { FlushBase, RecordStore } from '../data/record-store.ts'
import { joinRows } from '../postgres/packed-rows.ts'
import type { Rows } from '../postgres/row.ts'
import { classifyFailure } from '../postgres/sqlstate.ts'
import { Problem } from '../problems.ts'
import { FairQueue } from './fair-queue.ts'
import {
  answerDefect,
  answerLate,
  bytesOf,
  countRows,
  isOpen,
  isolateBadRow,
  isStrict,
  noteSent,
  type Part,
  rowsOf,
  setOutcomes,
  type WaitingRequest,
} from './waiting.ts'

/**
 * The writer turns many waiting requests into few transactions.
 *
 * A request (its checked rows) waits in a queue, in which the API keys take turns (fair-queue.ts). A flush takes whole requests
 * from the queue until it reaches a bound on rows or bytes, and writes them in one transaction. Load decides its size: a lone
 * request is flushed at once; while flushes are running, new requests form the next one. Another flush starts beside the
 * running ones when the queue has as many rows as the smallest of them, because many small flushes cost more than a few large
 * ones, or after GROW_MS, because the running ones may be stuck.
 *
 * A flush has one of these states:
 *
 *   writing ──committed────────────────────────────▶ writing the next piece; ended if it was the last one
 *      │ ├───a row is at fault─────────────────────▶ writing the first half of the piece, and then the second half
 *      │ ├───the database is unavailable or busy───▶ holding
 *      │ └───any other failure─────────────────────▶ writing the next piece, or ended; the piece's requests get the error
 *   holding ──the pause is over────────────────────▶ writing the same piece, with the same base
 *           ──the database is available again──────▶ the same, at once
 *           ──no request is left───────────────────▶ writing the next piece, or ended
 *
 * At first, the whole flush is one piece. Pieces are halved until the row at fault is alone, and only that row is rejected.
 * A strict request is a flush of its own and is never halved.
 *
 * A piece that is sent again keeps its `base`: with it, the store recognises rows that an earlier try committed, so each
 * request gets the exact result. A pause is measured from the start of one try to the start of the next, and pauses grow. After
 * a try that took longer than its pause, the next one starts at once.
 *
 * The outcome of a request is unknown from the moment when a statement with its rows is sent until PostgreSQL reports that
 * the statement was rolled back.
 *
 * A request gets 503 at the end of its hold window, which starts with its arrival. While it is in the queue or its flush is
 * holding, it gets 503 at once; while its flush is writing, after GRACE_MS, because that try may still give the exact result. In
 * that case its rows may be stored, and the flush continues without it. The other requests of the flush have their own
 * deadlines. A withdrawn request ends in the same way (in a holding flush, when the pause is over), and no further statement
 * with its rows is sent.
 *
 * The database counts as unavailable from the first failure that shows it until its next response of any kind. While it is
 * unavailable and no request waits, the writer pings it.
 */

export interface WriterOptions {
  /** Rows after which no more requests join a flush. */
  maxRows: number
  /** Bytes after which no more requests join a flush. */
  maxBytes: number
  /** Maximum number of flushes that run at the same time. */
  concurrency: number
  /** The hold window: how long a request waits for an unavailable database, in milliseconds. */
  holdMs: number
  /** Called with the error when an outage begins, and without one when it ends. */
  onOutage?: (error?: unknown) => void
  /** Called once for each committed piece. `bytes` is the size of the bodies; a request that was split counts in proportion. */
  onFlush?: (flush: { rows: number; requests: number; bytes: number; milliseconds: number }) => void
  /** Called when a piece failed for a temporary reason and will be sent again. */
  onRetry?: () => void
  /** Traces flushes: `current` returns the trace of the current request, `flush` wraps the work of a flush. */
  traces?: {
    current(): unknown
    flush(requests: readonly unknown[], rows: number, work: () => Promise<void>): Promise<void>
  }
}

/** State of the writer, for metrics. */
interface WriterStatus {
  /** Number of requests that are not answered yet. */
  waiting: number
  /** How long the oldest of them has waited, in milliseconds; 0 if there is none. */
  oldestMs: number
  /** Number of flushes that are writing. */
  writing: number
  /** Number of flushes that are holding. */
  holding: number
}

/** The states of a flush; see above. */
type State = 'writing' | 'holding' | 'ended'

interface Flush {
  state: State
  /** The first piece is being written. The others come after it. */
  pieces: Part[][]
  /** Ends the pause of a holding flush. */
  wake: () => void
}

const TRANSITIONS: Record<State, readonly State[]> = {
  writing: ['writing', 'holding', 'ended'],
  holding: ['writing', 'ended'],
  ended: [],
}

/** How long a flush that is smaller than the running ones waits to grow: about as long as a commit on a slow disk takes. */
const GROW_MS = 10
const FIRST_PAUSE_MS = 25
/**
 * The writer notices that the database is available again within this time plus the time of a login, or within a second if
 * the connection attempt that was running at that moment is lost (postgres/connect.ts).
 */
const MAX_PAUSE_MS = 500
/** How long after its hold window a request waits for the try that is running. */
const GRACE_MS = 2_000
/** How often deadlines are checked. In holding flushes, they are kept to the millisecond. */
const CHECK_MS = 500

export class Writer {
  readonly #store: RecordStore
  readonly #options: WriterOptions
  readonly #queue = new FairQueue()
  readonly #flushes = new Set<Flush>()
  readonly #whenIdle: (() => void)[] = []
  #scheduled = false
  /** Runs while a flush waits to grow. */
  #growTimer: NodeJS.Timeout | undefined
  #closing = false
  #isUnavailable = false
  /** The last failure that showed the outage. */
  #outageCause: unknown
  #isPinging = false
  /** Runs while requests wait, and during an outage. */
  #deadlineTimer: NodeJS.Timeout | undefined

  constructor(store: RecordStore, options: WriterOptions) {
    this.#store = store
    this.#options = options
  }

  /**
   * Adds a request to the queue. The memory of its body is reserved elsewhere (lib/memory-budget.ts).
   * @param done called once: after the commit with one outcome per row, or with an error (a Problem, unless there is a bug)
   * @returns a function that withdraws the request and takes the reason. Rows that were not sent to PostgreSQL are not written;
   * a running try has GRACE_MS left.
   */
  submit(
    request: { key: string; rows: Rows; bytes: number; strict: boolean },
    done: WaitingRequest['done'],
  ): (why: Problem) => void {
    if (this.#closing) {
      done(new Problem('draining', 'This instance is shutting down; send the request again.'), [])
      return () => {}
    }
    const waiting: WaitingRequest = {
      ...request,
      deadline: performance.now() + this.#options.holdMs,
      outcomeUnknown: false,
      outcomes: new Array(request.rows.length),
      pendingRows: request.rows.length,
      trace: this.#options.traces?.current(),
      done,
    }
    this.#queue.push(waiting)
    this.#deadlineTimer ??= setInterval(() => this.#checkDeadlines(), CHECK_MS)
    this.#schedule()
    return (why) => this.#withdraw(waiting, why)
  }

  #withdraw(request: WaitingRequest, why: Problem): void {
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

  /** Refuses new requests, and ends the hold window of the others now: a running try has GRACE_MS left. */
  giveUp(): void {
    this.#closing = true
    const now = performance.now()
    const open = [...this.#flushes].flatMap(({ pieces }) => pieces.flat()).map(({ request }) => request)
    for (const request of [...this.#queue.all, ...open]) request.deadline = Math.min(request.deadline, now)
  }

  /** Refuses new requests, and resolves when all submitted ones are answered. */
  async close(): Promise<void> {
    this.#closing = true
    if (!this.#isIdle()) await new Promise<void>((resolve) => this.#whenIdle.push(resolve))
    this.#stopDeadlineTimer()
  }

  /** Starts flushes at the end of this iteration of the event loop, so that requests that arrive together share a flush. */
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
        this.#growTimer ??= setTimeout(() => this.#endGrowing(), GROW_MS)
        return
      }
      this.#startFlush()
    }
  }

  #startFlush(): void {
    clearTimeout(this.#growTimer)
    this.#growTimer = undefined
    const flush: Flush = { state: 'writing', pieces: [this.#takeRequests()], wake: () => {} }
    this.#flushes.add(flush)
    void this.#runTraced(flush).then(() => {
      this.#flushes.delete(flush)
      this.#startFlushes()
      this.#noteIdle()
    })
  }

  /** Whether the queue has fewer rows than each of the running flushes, and fewer than a flush may have. */
  #isSmall(): boolean {
    if (this.#flushes.size === 0) return false
    const sizes = [...this.#flushes].map(({ pieces }) => countRows(pieces[0] ?? []))
    return this.#queue.rows < Math.min(this.#options.maxRows, ...sizes)
  }

  #endGrowing(): void {
    this.#growTimer = undefined
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

  /** Writes the pieces of a flush, one after the other, until all its requests are answered. Never rejects. */
  async #run(flush: Flush): Promise<void> {
    for (let piece = flush.pieces[0]; piece !== undefined; piece = flush.pieces[0]) {
      const halves = await this.#writePiece(flush, piece)
      flush.pieces.splice(0, 1, ...halves)
      changeState(flush, flush.pieces.length > 0 ? 'writing' : 'ended')
    }
  }

  /** @returns the pieces that remain to be written: both halves if a row is at fault, otherwise none */
  async #writePiece(flush: Flush, piece: Part[]): Promise<Part[][]> {
    const base = this.#store.newBase()
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, MAX_PAUSE_MS)) {
      for (const { request } of piece) if (request.withdrawn !== undefined) answerLate(request, undefined)
      const parts = piece.filter(isOpen)
      if (parts.length === 0) return []
      // Half of each pause is random, so that the instances do not all retry at the same moment.
      const next = performance.now() + pause * (0.5 + Math.random() / 2)
      const noteRolledBack = noteSent(parts)
      try {
        await this.#write(parts, base)
        this.#noteAvailable()
        return []
      } catch (error) {
        const failure = classifyFailure(error)
        if (failure.written === 'no') noteRolledBack()
        if (failure.kind !== 'transient') {
          // Any response of the database ends the outage.
          this.#noteAvailable()
          if (failure.kind === 'row' && !isStrict(parts)) return isolateBadRow(parts, error)
          for (const { request } of parts) answerDefect(request, error)
          return []
        }
        this.#options.onRetry?.()
        if (failure.unavailable) this.#noteUnavailable(error)
        else this.#noteAvailable()
        // During shutdown, requests do not wait for an unavailable database.
        const now = this.#closing && failure.unavailable ? Number.POSITIVE_INFINITY : performance.now()
        for (const { request } of parts) if (request.deadline <= now) answerLate(request, error)
        await hold(flush, parts.filter(isOpen), next)
      }
    }
  }

  async #write(parts: Part[], base: FlushBase): Promise<void> {
    const rows = joinRows(parts.map(rowsOf))
    const started = performance.now()
    const outcomes = await (isStrict(parts) ? this.#store.writeStrict(rows, base) : this.#store.write(rows, base))
    const milliseconds = performance.now() - started
    this.#options.onFlush?.({ rows: rows.length, requests: parts.length, bytes: bytesOf(parts), milliseconds })
    let at = 0
    for (const part of parts) {
      const next = at + part.to - part.from
      setOutcomes(part, outcomes, at)
      at = next
    }
  }

  /** Notes a failure that shows an outage, and begins the outage if it is the first one. */
  #noteUnavailable(error: unknown): void {
    this.#outageCause = error
    if (this.#isUnavailable) return
    this.#isUnavailable = true
    this.#options.onOutage?.(error)
  }

  /** Notes a response of the database: ends the outage, if there is one, and all pauses. */
  #noteAvailable(): void {
    if (!this.#isUnavailable) return
    this.#isUnavailable = false
    this.#outageCause = undefined
    this.#options.onOutage?.()
    for (const flush of this.#flushes) flush.wake()
  }

  /** Answers requests whose deadline has passed. During an outage without requests, pings the database. */
  #checkDeadlines(): void {
    const now = performance.now()
    for (const request of this.#queue.takeLate(now)) answerLate(request, this.#outageCause)
    for (const { pieces } of this.#flushes) {
      for (const { request } of pieces.flat())
        if (request.deadline + GRACE_MS <= now) answerLate(request, this.#outageCause)
    }
    this.#noteIdle()
    if (this.#isIdle() && this.#isUnavailable) this.#ping()
    else if (this.#isIdle()) this.#stopDeadlineTimer()
  }

  #ping(): void {
    if (this.#isPinging) return
    this.#isPinging = true
    void this.#store
      .ping()
      .then(
        () => this.#noteAvailable(),
        () => {},
      )
      .finally(() => {
        this.#isPinging = false
      })
  }

  #isIdle(): boolean {
    return this.#flushes.size === 0 && this.#queue.length === 0
  }

  #noteIdle(): void {
    if (this.#isIdle()) for (const resolve of this.#whenIdle.splice(0)) resolve()
  }

  #stopDeadlineTimer(): void {
    clearInterval(this.#deadlineTimer)
    clearTimeout(this.#growTimer)
    this.#deadlineTimer = undefined
  }
}

function changeState(flush: Flush, state: State): void {
  if (!TRANSITIONS[flush.state].includes(state))
    throw new Error(`a flush cannot change from ${flush.state} to ${state}`)
  flush.state = state
}

/** Waits for the time of the next try, for the next deadline, or for the end of the outage. */
async function hold(flush: Flush, parts: Part[], next: number): Promise<void> {
  if (parts.length === 0) return
  changeState(flush, 'holding')
  const until = Math.min(next, ...parts.map(({ request }) => request.deadline))
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, Math.max(0, until - performance.now()))
    flush.wake = () => {
      clearTimeout(timer)
      resolve()
    }
  })
  flush.wake = () => {}
  changeState(flush, 'writing')
}

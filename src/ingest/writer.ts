import type { RecordStore, RowOutcome } from '../data/record-store.ts'
import type { Row } from '../data/row.ts'
import { classifyFailure, sqlstateOf } from '../data/sqlstate.ts'
import { Problem } from '../lib/problems.ts'

/**
 * The writer turns many waiting requests into few transactions.
 *
 * A request (its checked rows) waits in a queue. A flush takes requests from the head of the queue, whole, until a bound
 * on rows or bytes is reached, and is written in one transaction. There is no timer: a lone request is flushed at once,
 * and while flushes are at the database whatever arrives becomes the next one, so flushes grow with the load.
 *
 * A flush is in one of these states:
 *
 *   writing ──committed──────────────▶ answered   every request gets one outcome a row
 *      │ ├───a row is at fault───────▶ split      halves are written each by itself, down to the guilty row
 *      │ ├───the database is away,
 *      │ │   or others were in the way▶ holding    waits, with growing pauses, then writing again
 *      │ └───anything else───────────▶ failed     every request gets the error
 *   holding ──a request's time is up─▶            that request alone leaves, with 503; the others stay
 *           ──none is left───────────▶ failed
 *
 * A flush that is sent again, because its connection broke, keeps its `base`: the store recognises rows that the first
 * try had committed after all as this flush's own, so each request gets the exact answer.
 * A strict request has a flush of its own.
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
  /** Called once for each committed flush. */
  onFlush?: (flush: { rows: number; requests: number; milliseconds: number }) => void
}

interface Waiting {
  rows: readonly Row[]
  bytes: number
  strict: boolean
  /** When the hold window closes, in the clock of performance.now(). */
  deadline: number
  /** A try ended without an answer: it may have been committed. */
  unsure: boolean
  outcomes: RowOutcome[]
  /** Outcomes still to come. */
  missing: number
  done: (error: unknown, outcomes: RowOutcome[]) => void
}

/** Rows `from` to `to` of a waiting request; a split cuts within a request. */
interface Part {
  request: Waiting
  from: number
  to: number
}

const FIRST_PAUSE_MS = 25
const LONGEST_PAUSE_MS = 500

export class Writer {
  readonly #store: RecordStore
  readonly #options: WriterOptions
  readonly #queue: Waiting[] = []
  readonly #whenIdle: (() => void)[] = []
  #flushes = 0
  #scheduled = false
  #closing = false
  /** Runs while the database is away. */
  #outage: NodeJS.Timeout | undefined
  readonly #sleeping = new Set<() => void>()

  constructor(store: RecordStore, options: WriterOptions) {
    this.#store = store
    this.#options = options
  }

  /**
   * Hands over a request's rows; none of its bytes are counted here, the body's reservation does that (ingest/budget.ts).
   * @param done called once: after the commit with one outcome a row, or with a Problem or a defect
   */
  submit(request: { rows: readonly Row[]; bytes: number; strict: boolean }, done: Waiting['done']): void {
    if (this.#closing) {
      done(new Problem('draining', 'This instance is shutting down; send the request again.'), [])
      return
    }
    this.#queue.push({
      ...request,
      deadline: performance.now() + this.#options.holdMs,
      unsure: false,
      outcomes: new Array(request.rows.length),
      missing: request.rows.length,
      done,
    })
    this.#schedule()
  }

  /** Refuses new requests, and resolves when all that were handed over are answered. */
  async close(): Promise<void> {
    this.#closing = true
    await new Promise<void>((resolve) => {
      this.#whenIdle.push(resolve)
      if (this.#flushes === 0 && this.#queue.length === 0) this.#noteIdle()
    })
  }

  /** At the end of the turn of the event loop, so that requests which arrived together share a flush. */
  #schedule(): void {
    if (this.#scheduled || this.#flushes >= this.#options.concurrency) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#startFlushes()
    })
  }

  #startFlushes(): void {
    while (this.#flushes < this.#options.concurrency && this.#queue.length > 0) {
      this.#flushes++
      void this.#flush(this.#takeRequests()).then(() => {
        this.#flushes--
        this.#startFlushes()
        if (this.#flushes === 0 && this.#queue.length === 0) this.#noteIdle()
      })
    }
  }

  #noteIdle(): void {
    if (this.#closing) clearInterval(this.#outage)
    for (const resolve of this.#whenIdle.splice(0)) resolve()
  }

  #takeRequests(): Part[] {
    const { maxRows, maxBytes } = this.#options
    let count = 0
    let rows = 0
    let bytes = 0
    for (const request of this.#queue) {
      const fits = rows + request.rows.length <= maxRows && bytes + request.bytes <= maxBytes && !request.strict
      if (count > 0 && !fits) break
      count++
      rows += request.rows.length
      bytes += request.bytes
      if (request.strict) break
    }
    return this.#queue.splice(0, count).map((request) => ({ request, from: 0, to: request.rows.length }))
  }

  /** Writes the parts until each is answered. Never rejects. */
  async #flush(parts: Part[]): Promise<void> {
    const base = this.#store.newBase()
    for (let pause = FIRST_PAUSE_MS; parts.length > 0; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      try {
        await this.#write(parts, base)
        this.#noteBack()
        return
      } catch (error) {
        const failure = classifyFailure(error)
        if (failure.kind === 'row') this.#noteBack()
        if (failure.kind === 'row' && !isStrict(parts)) return this.#split(parts, error)
        // A strict request is all or nothing: what its store could not pin on a row is no fault of a row.
        if (failure.kind !== 'transient') return fail(parts, error)
        if (failure.written === 'unknown') for (const { request } of parts) request.unsure = true
        if (failure.away) this.#noteAway(error)
        parts = this.#closing ? expire(parts, Number.POSITIVE_INFINITY, error) : expire(parts, performance.now(), error)
        // Half of each pause is chance: instances that lost the same database do not all return in the same instant.
        if (parts.length > 0) await this.#sleep(pause * (0.5 + Math.random() / 2), parts)
      }
    }
  }

  async #write(parts: Part[], base: number): Promise<void> {
    const rows = parts.length === 1 ? rowsOf(parts[0] as Part) : parts.flatMap(rowsOf)
    const started = performance.now()
    const outcomes = await (isStrict(parts) ? this.#store.writeStrict(rows, base) : this.#store.write(rows, base))
    this.#options.onFlush?.({ rows: rows.length, requests: parts.length, milliseconds: performance.now() - started })
    let at = 0
    for (const { request, from, to } of parts) {
      for (let index = from; index < to; index++) request.outcomes[index] = outcomes[at++] as RowOutcome
      request.missing -= to - from
      if (request.missing === 0) request.done(undefined, request.outcomes)
    }
  }

  /** A row is at fault: writes each half by itself, one after the other, until that row stands alone. */
  async #split(parts: Part[], error: unknown): Promise<void> {
    const [first, second] = halve(parts)
    if (second.length === 0) {
      const { request, from } = first[0] as Part
      request.outcomes[from] = { status: 'refused', sqlstate: sqlstateOf(error) as string }
      if (--request.missing === 0) request.done(undefined, request.outcomes)
      return
    }
    await this.#flush(first)
    await this.#flush(second)
  }

  /** The first failure of an outage. While it lasts, requests in the queue run out of time too. */
  #noteAway(error: unknown): void {
    if (this.#outage !== undefined) return
    this.#options.onOutage?.(error)
    this.#outage = setInterval(() => this.#expireQueue(error), LONGEST_PAUSE_MS)
  }

  /** One flush got through: those that pause need not wait any longer. */
  #noteBack(): void {
    if (this.#outage === undefined) return
    clearInterval(this.#outage)
    this.#outage = undefined
    this.#options.onOutage?.()
    for (const wake of this.#sleeping) wake()
  }

  #expireQueue(error: unknown): void {
    const now = performance.now()
    const late = this.#queue.findIndex((request) => request.deadline > now)
    const expired = this.#queue.splice(0, late === -1 ? this.#queue.length : late)
    for (const request of expired) answerUnavailable(request, error)
  }

  /** Until the time is up, the next deadline has come, or the database is back. */
  async #sleep(milliseconds: number, parts: Part[]): Promise<void> {
    const deadline = Math.min(...parts.map(({ request }) => request.deadline))
    await new Promise<void>((resolve) => {
      const wake = () => {
        clearTimeout(timer)
        this.#sleeping.delete(wake)
        resolve()
      }
      const timer = setTimeout(wake, Math.max(0, Math.min(milliseconds, deadline - performance.now())))
      this.#sleeping.add(wake)
    })
  }
}

/** A strict request has a flush of its own. */
const isStrict = (parts: readonly Part[]): boolean => parts[0]?.request.strict === true

const rowsOf = ({ request, from, to }: Part): readonly Row[] =>
  from === 0 && to === request.rows.length ? request.rows : request.rows.slice(from, to)

function halve(parts: Part[]): [Part[], Part[]] {
  const total = parts.reduce((sum, { from, to }) => sum + to - from, 0)
  const halves: [Part[], Part[]] = [[], []]
  let room = Math.ceil(total / 2)
  for (const { request, from, to } of parts) {
    const cut = Math.min(to, from + room)
    room -= cut - from
    if (cut > from) halves[0].push({ request, from, to: cut })
    if (to > cut) halves[1].push({ request, from: cut, to })
    // Its pieces commit apart: should one fail for another reason, the others may be stored.
    if (cut > from && to > cut) request.unsure = true
  }
  return halves
}

/** Answers the requests whose time is up; returns the parts that go on. */
function expire(parts: Part[], now: number, error: unknown): Part[] {
  return parts.filter(({ request }) => {
    if (request.missing > 0 && request.deadline > now) return true
    answerUnavailable(request, error)
    return false
  })
}

function answerUnavailable(request: Waiting, cause: unknown): void {
  const detail = request.unsure
    ? 'The database went away while the records were being written; they may be stored. Sending the same request again is safe: its records are stored once.'
    : 'The database is away. Nothing was written; send the request again.'
  answerError(
    request,
    new Problem('database_unavailable', detail, { outcome: request.unsure ? 'unknown' : 'not_written', cause }),
  )
}

function fail(parts: Part[], error: unknown): void {
  for (const { request } of parts) {
    const outcome = request.unsure ? 'unknown' : 'not_written'
    answerError(
      request,
      new Problem('internal_error', 'The records could not be written. The log has the reason, under this requestId.', {
        outcome,
        cause: error,
      }),
    )
  }
}

/** At most once: a request that was split can fail in several places. */
function answerError(request: Waiting, error: Problem): void {
  if (request.missing <= 0) return
  request.missing = 0
  request.done(error, [])
}

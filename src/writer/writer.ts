import type { RecordStore } from '../data/record-store.ts'
import type { Rows } from '../postgres/row.ts'
import { Problem } from '../problems.ts'
import { FairQueue } from './fair-queue.ts'
import { Flush, type FlushContext } from './flush.ts'
import { Outage } from './outage.ts'
import { answerUnfinished, type WaitingRequest } from './waiting-request.ts'

/**
 * The writer turns many waiting requests into few transactions.
 *
 * A request (its checked rows) waits in a queue, in which the API keys take turns (fair-queue.ts). A flush takes whole requests
 * from the queue until it reaches a bound on rows or bytes, and writes them in one transaction (flush.ts). Load decides its size:
 * a lone request is flushed at once; while flushes are running, new requests form the next one. Another flush starts beside the
 * running ones when the queue has as many rows as the smallest of them, because many small flushes cost more than a few large
 * ones, or after GROW_MS, because the running ones may be stuck.
 *
 * The hold window of a request starts with its arrival. When it ends, a request in the queue gets an error. In a holding flush,
 * its rows are tried once more. In a writing flush, the running try has GRACE_MS to give the exact result; after that, the request
 * gets an error, its rows may be stored, and the flush continues without it. The other requests of the flush have their own hold
 * windows. A request that is withdrawn gets an error: in the queue at once, in a holding flush when the pause is over, and in a
 * writing flush like one whose hold window ends. Its rows are not tried again.
 *
 * outage.ts knows whether the database is available. When an outage ends, the holding flushes try again at once.
 *
 * After `close`, the waiting requests are still written. If the database is unavailable, they do not wait for it: a request whose
 * try fails gets an error.
 */

export interface WriterOptions extends Partial<Pick<FlushContext, 'onFlush' | 'onRetry'>> {
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

/** How long a flush that is smaller than the running ones waits to grow: about as long as a commit on a slow disk takes. */
const GROW_MS = 10
/** How long after its hold window a request waits for the try that is running. */
const GRACE_MS = 2_000
/** How often deadlines are checked. A holding flush makes its last try exactly at the deadline. */
const CHECK_MS = 500

export class Writer {
  readonly #options: WriterOptions
  readonly #context: FlushContext
  readonly #outage: Outage
  readonly #queue = new FairQueue()
  readonly #flushes = new Set<Flush>()
  readonly #whenIdle: (() => void)[] = []
  #scheduled = false
  /** Runs while a flush waits to grow. */
  #growTimer: NodeJS.Timeout | undefined
  #closing = false
  /** Runs while requests wait, and during an outage. */
  #deadlineTimer: NodeJS.Timeout | undefined

  constructor(store: RecordStore, options: WriterOptions) {
    this.#options = options
    this.#outage = new Outage(
      () => store.ping(),
      (error) => {
        options.onOutage?.(error)
        if (error === undefined) for (const flush of this.#flushes) flush.wake()
      },
    )
    const { onFlush = () => {}, onRetry = () => {} } = options
    this.#context = { store, outage: this.#outage, isClosing: () => this.#closing, onFlush, onRetry }
  }

  /**
   * Adds a request to the queue. The memory of its body is reserved elsewhere (lib/memory-budget.ts).
   * @param request has at least one row
   * @param done called once: after the commit with one outcome per row, or with an error
   * @returns a function that withdraws the request. Its argument is the error for the client. No further statement with its rows
   * is sent; a running try keeps GRACE_MS.
   */
  submit(
    request: { key: string; rows: Rows; bytes: number; strict: boolean },
    done: WaitingRequest['done'],
  ): (why: Problem) => void {
    if (this.#closing) {
      done(new Problem('draining', 'This instance is shutting down; send the request again.'), [])
      return () => {}
    }
    const arrivedAt = performance.now()
    const waiting: WaitingRequest = {
      ...request,
      arrivedAt,
      deadline: arrivedAt + this.#options.holdMs,
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
    if (this.#queue.remove(request)) answerUnfinished(request, undefined)
  }

  get status(): WriterStatus {
    const flushes = [...this.#flushes]
    const inFlushes = this.#requestsInFlushes()
    const candidates = [...inFlushes, ...this.#queue.heads]
    return {
      waiting: inFlushes.length + this.#queue.length,
      oldestMs: Math.max(0, ...candidates.map(({ arrivedAt }) => performance.now() - arrivedAt)),
      writing: flushes.filter(({ state }) => state === 'writing').length,
      holding: flushes.filter(({ state }) => state === 'holding').length,
    }
  }

  /** Refuses new requests, and ends the hold windows of the others now. */
  giveUp(): void {
    this.#closing = true
    const now = performance.now()
    for (const request of [...this.#queue.all, ...this.#requestsInFlushes()])
      request.deadline = Math.min(request.deadline, now)
  }

  /** Refuses new requests, and resolves when all submitted ones are answered. */
  async close(): Promise<void> {
    this.#closing = true
    if (!this.#isIdle()) await new Promise<void>((resolve) => this.#whenIdle.push(resolve))
    this.#stopTimers()
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
      if (this.#isQueueSmall()) {
        this.#growTimer ??= setTimeout(() => this.#endGrowing(), GROW_MS)
        return
      }
      this.#startFlush()
    }
  }

  #startFlush(): void {
    clearTimeout(this.#growTimer)
    this.#growTimer = undefined
    const requests = this.#queue.take(this.#options.maxRows, this.#options.maxBytes)
    const flush = new Flush(requests, this.#context)
    this.#flushes.add(flush)
    void this.#run(flush, requests).then(() => {
      this.#flushes.delete(flush)
      this.#startFlushes()
      this.#noteIdle()
    })
  }

  #run(flush: Flush, requests: WaitingRequest[]): Promise<void> {
    const { traces } = this.#options
    if (traces === undefined) return flush.run()
    return traces.flush(
      requests.map(({ trace }) => trace),
      flush.rows,
      () => flush.run(),
    )
  }

  /** Whether the queue has fewer rows than each of the running flushes, and fewer than a flush may have. */
  #isQueueSmall(): boolean {
    if (this.#flushes.size === 0) return false
    return this.#queue.rows < Math.min(this.#options.maxRows, ...[...this.#flushes].map(({ rows }) => rows))
  }

  #endGrowing(): void {
    this.#growTimer = undefined
    if (this.#flushes.size < this.#options.concurrency && this.#queue.length > 0) this.#startFlush()
  }

  /** Answers requests whose hold window is over. During an outage without requests, pings the database. */
  #checkDeadlines(): void {
    const now = performance.now()
    for (const request of this.#queue.takeExpired(now)) answerUnfinished(request, this.#outage.cause)
    for (const request of this.#requestsInFlushes())
      if (request.deadline + GRACE_MS <= now) answerUnfinished(request, this.#outage.cause)
    this.#noteIdle()
    if (!this.#isIdle()) return
    if (this.#outage.isActive) this.#outage.ping()
    else this.#stopTimers()
  }

  /** The requests of all flushes that are not answered yet. A request is in one flush only. */
  #requestsInFlushes(): WaitingRequest[] {
    return [...this.#flushes].flatMap(({ requests }) => [...requests])
  }

  #isIdle(): boolean {
    return this.#flushes.size === 0 && this.#queue.length === 0
  }

  #noteIdle(): void {
    if (this.#isIdle()) for (const resolve of this.#whenIdle.splice(0)) resolve()
  }

  #stopTimers(): void {
    clearInterval(this.#deadlineTimer)
    this.#deadlineTimer = undefined
    clearTimeout(this.#growTimer)
    this.#growTimer = undefined
  }
}

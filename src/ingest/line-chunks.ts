import type { Key } from '../access/key.ts'
import { RowPacker } from '../postgres/packed-rows.ts'
import type { Row } from '../postgres/row.ts'
import type { Problem } from '../problems.ts'
import type { Writer } from '../writer/writer.ts'
import { CONFLICT_BYTES, type LineReport, MAX_REJECTIONS } from './line-report.ts'

/** Size of a chunk: large enough for a flush of its own, small enough to hold several in memory. */
const CHUNK_ROWS = 2000
const CHUNK_BYTES = 1024 * 1024
/** Chunks at the writer at the same time: one more than the default FLUSH_CONCURRENCY, so that the next is ready when a flush ends. */
const CHUNKS_IN_FLIGHT = 3

/** Maximum memory of the chunks of one stream, in bytes. */
export const STREAM_BYTES = (CHUNKS_IN_FLIGHT + 1) * CHUNK_BYTES

/** Called before lines go to the writer; may delay them. Rejects with a Problem if they are not allowed. */
export type Admit = (rows: number, bytes: number) => Promise<void>

interface Chunk {
  rows: RowPacker
  /** The line number of each row. */
  lines: number[]
  /** Size of these lines as they arrived. */
  bytes: number
  /** Number of the last line that was read before the chunk was sent, including lines without a row. */
  lastLine: number
  state: 'filling' | 'sent' | 'stored' | 'failed'
  /** Withdraws from the writer what was not sent to the database. */
  withdraw: (why: Problem) => void
}

/** Gathers the rows of a stream into chunks, submits a few chunks at a time to the writer, and adds the results to the report. */
export class LineChunks {
  readonly #writer: Writer
  readonly #report: LineReport
  /** The id of the API key that sends the stream. */
  readonly #key: string
  readonly #stop: AbortSignal
  readonly #admit: Admit | undefined
  /** In the order of the lines. Stored chunks are removed only from the front, because committedLines must not skip a chunk. */
  #sent: Chunk[] = []
  #current = newChunk(0)
  #onDone: () => void = () => {}
  /** Why a chunk was not stored: the error of the first one that failed. A Problem, unless there is a bug. */
  problem: unknown

  /** @param request `key` sends the stream. After `stop` is aborted (its reason is a Problem), nothing more is submitted. */
  constructor(writer: Writer, report: LineReport, request: { key: Pick<Key, 'id'>; stop: AbortSignal; admit?: Admit }) {
    this.#writer = writer
    this.#report = report
    this.#key = request.key.id
    this.#stop = request.stop
    this.#admit = request.admit
  }

  get isFull(): boolean {
    return this.#current.rows.length >= CHUNK_ROWS || this.#current.rows.size >= CHUNK_BYTES
  }

  /** Whether the current chunk has rows to send. */
  get hasRows(): boolean {
    return this.#current.rows.length > 0
  }

  /** Whether no chunk of this stream is waiting for the writer. */
  get isIdle(): boolean {
    return this.#inFlight === 0
  }

  /** Memory of the rows, and of the rejections that they may add to the report. */
  get heldBytes(): number {
    let [bytes, rows] = [0, 0]
    for (const chunk of [...this.#sent, this.#current]) {
      bytes += chunk.rows.size
      rows += chunk.state === 'stored' ? 0 : chunk.rows.length
    }
    return bytes + Math.min(rows, MAX_REJECTIONS) * CONFLICT_BYTES
  }

  /** Notes that all lines up to this one were read, with or without a row. */
  reachLine(line: number): void {
    this.#current.lastLine = line
    this.#report.lines = line
  }

  add(row: Row, line: number, bytes: number): void {
    this.#current.rows.add(row)
    this.#current.lines.push(line)
    this.#current.bytes += bytes
  }

  /** Waits until fewer than CHUNKS_IN_FLIGHT chunks are at the writer, then submits the current one. Does not wait until it is stored. */
  async send(): Promise<void> {
    while (this.#inFlight >= CHUNKS_IN_FLIGHT && !this.#stop.aborted) await this.nextDone()
    const chunk = this.#current
    try {
      this.#stop.throwIfAborted()
      await this.#admit?.(chunk.rows.length, chunk.bytes)
      this.#stop.throwIfAborted()
    } catch (error) {
      this.problem ??= error
    }
    // After a failure no further chunk is sent: the lines after a gap cannot count as committed.
    if (this.problem !== undefined) return
    this.#current = newChunk(chunk.lastLine)
    this.#sent.push(chunk)
    chunk.state = 'sent'
    const rows = chunk.rows.rows()
    const request = { key: this.#key, rows, bytes: chunk.bytes, strict: false }
    chunk.withdraw = this.#writer.submit(request, (error, outcomes) => {
      if (error === undefined) this.#report.record(rows, chunk.lines, outcomes)
      else this.#noteFailed(error)
      // A failed chunk may still be in use by a statement: its memory is not released for reuse.
      if (error === undefined) chunk.rows.release()
      chunk.state = error === undefined ? 'stored' : 'failed'
      while (this.#sent[0]?.state === 'stored') this.#report.committedLines = (this.#sent.shift() as Chunk).lastLine
      this.#onDone()
    })
  }

  /** Withdraws what the writer has not sent to the database yet. Statements that are running get a short grace time. */
  withdraw(why: Problem): void {
    for (const { withdraw } of this.#sent) withdraw(why)
  }

  /** Submits the remaining rows and waits until every chunk is stored or has failed. */
  async finish(): Promise<void> {
    if (this.hasRows && this.problem === undefined) await this.send()
    while (this.#inFlight > 0) await this.nextDone()
    if (this.#sent.length === 0 && !this.hasRows) this.#report.committedLines = this.#report.lines
  }

  #noteFailed(problem: Problem): void {
    this.problem ??= problem
    // The outcome of the stream is unknown if that of any chunk is, not only of the chunk that failed first.
    if (problem.outcome === 'unknown') this.#report.outcomeUnknown = true
  }

  /** Resolves when a submitted chunk is stored or has failed, or `wake` is called. */
  nextDone(): Promise<void> {
    return new Promise((resolve) => {
      this.#onDone = resolve
    })
  }

  /** Call this after `stop` is aborted: a waiting `send` checks the signal again. */
  wake(): void {
    this.#onDone()
  }

  get #inFlight(): number {
    return this.#sent.filter(({ state }) => state === 'sent').length
  }
}

const newChunk = (lastLine: number): Chunk => ({
  rows: new RowPacker(),
  lines: [],
  bytes: 0,
  lastLine,
  state: 'filling',
  withdraw: () => {},
})

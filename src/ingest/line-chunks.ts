import { RowPacker } from '../data/packed-rows.ts'
import type { Row } from '../data/row.ts'
import type { Problem } from '../lib/problems.ts'
import type { Key } from '../operate/keys.ts'
import { CONFLICT_BYTES, type LineReport, MAX_REJECTIONS } from './line-report.ts'
import type { Writer } from './writer.ts'

/** Lines that go to the writer together: enough to make a flush of their own, few enough to hold several in memory. */
const CHUNK_ROWS = 2000
const CHUNK_BYTES = 1024 * 1024
/** Chunks at the writer at once: one more than there are flushes, so that the next is ready when one ends. */
const CHUNKS_IN_FLIGHT = 3

/** What the chunks of one stream hold in memory at most. */
export const STREAM_BYTES = (CHUNKS_IN_FLIGHT + 1) * CHUNK_BYTES

/** Asked before lines go to the writer; may take its time. Rejects with a Problem when they may not. */
export type Admit = (rows: number, bytes: number) => Promise<void>

interface Chunk {
  rows: RowPacker
  /** The line of each row. */
  lines: number[]
  /** Of these lines, as they came. */
  bytes: number
  /** The last line that was read when the chunk was sent; lines without a row count as well. */
  lastLine: number
  state: 'filling' | 'sent' | 'stored' | 'failed'
  /** Takes it back from the writer, as far as it was not sent to the database. */
  withdraw: (why: Problem) => void
}

/** Gathers the rows of a stream into chunks, hands these to the writer, a few at a time, and reports what it says. */
export class LineChunks {
  readonly #writer: Writer
  readonly #report: LineReport
  /** The id of the API key that sends the stream. */
  readonly #key: string
  readonly #stop: AbortSignal
  readonly #admit: Admit | undefined
  /** In the order of the lines; done ones leave at the head only, since a gap ends what can be called committed. */
  #sent: Chunk[] = []
  #current = newChunk(0)
  #onDone: () => void = () => {}
  /** Why a chunk was not stored: the first of them to fail. A Problem, or a defect. */
  problem: unknown

  /**
   * @param request whose stream it is: `key` sends it; once `stop` is aborted nothing more is handed over, and its reason, a
   * Problem, says why
   */
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

  /** Are there rows to send? */
  get hasRows(): boolean {
    return this.#current.rows.length > 0
  }

  /** Does nothing of this stream wait for the writer? */
  get isIdle(): boolean {
    return this.#inFlight === 0
  }

  /** Of the rows, and of what the report may have to say of them. */
  get heldBytes(): number {
    let [bytes, rows] = [0, 0]
    for (const chunk of [...this.#sent, this.#current]) {
      bytes += chunk.rows.size
      rows += chunk.state === 'stored' ? 0 : chunk.rows.length
    }
    return bytes + Math.min(rows, MAX_REJECTIONS) * CONFLICT_BYTES
  }

  /** All lines up to this one were read, whatever was in them. */
  reachLine(line: number): void {
    this.#current.lastLine = line
    this.#report.lines = line
  }

  add(row: Row, line: number, bytes: number): void {
    this.#current.rows.add(row)
    this.#current.lines.push(line)
    this.#current.bytes += bytes
  }

  /** Hands the chunk over, as soon as there is a place for it; does not wait until it is stored. */
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
    // What is full stays so, and is not sent: after a gap nothing can be called committed.
    if (this.problem !== undefined) return
    this.#current = newChunk(chunk.lastLine)
    this.#sent.push(chunk)
    chunk.state = 'sent'
    const rows = chunk.rows.rows()
    const request = { key: this.#key, rows, bytes: chunk.bytes, strict: false }
    chunk.withdraw = this.#writer.submit(request, (error, outcomes) => {
      if (error === undefined) this.#report.record(rows, chunk.lines, outcomes)
      else this.#noteFailed(error as Problem)
      // One that failed may still be on its way.
      if (error === undefined) chunk.rows.release()
      chunk.state = error === undefined ? 'stored' : 'failed'
      while (this.#sent[0]?.state === 'stored') this.#report.committedLines = (this.#sent.shift() as Chunk).lastLine
      this.#onDone()
    })
  }

  /** Takes back what the writer has not sent to the database yet; what it has sent has a moment left. */
  withdraw(why: Problem): void {
    for (const { withdraw } of this.#sent) withdraw(why)
  }

  /** Hands over what is left, and waits until all is stored or has failed. */
  async finish(): Promise<void> {
    if (this.hasRows && this.problem === undefined) await this.send()
    while (this.#inFlight > 0) await this.nextDone()
    if (this.#sent.length === 0 && !this.hasRows) this.#report.committedLines = this.#report.lines
  }

  #noteFailed(problem: Problem): void {
    this.problem ??= problem
    // Whichever chunk fails first: the stream is not written only when none of its chunks can be.
    if (problem.outcome === 'unknown') this.#report.outcomeUnknown = true
  }

  /** Until one of those that wait for the writer is stored, or has failed, or `wake` is called. */
  nextDone(): Promise<void> {
    return new Promise((resolve) => {
      this.#onDone = resolve
    })
  }

  /** To be called when `stop` is aborted: what waits for a place looks at it again. */
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

import { isUtf8 } from 'node:buffer'
import type { Readable } from 'node:stream'
import { setImmediate as nextIteration } from 'node:timers/promises'
import { sourceFault } from '../access/check-key.ts'
import type { Key } from '../access/key.ts'
import { type Block, LineCutter, type LongLine } from '../lib/line-cutter.ts'
import { isTurnOver, waitForTurn } from '../lib/turns.ts'
import type { Row } from '../postgres/row.ts'
import type { Fault } from '../problems.ts'
import type { Counts } from '../schemas/results.ts'
import type { Writer } from '../writer/writer.ts'
import { stripByteOrderMark } from './body.ts'
import { BodyReader } from './body-reader.ts'
import type { Defaults } from './envelope.ts'
import { inflaterBytes } from './inflate.ts'
import { ADDED_BYTES, isFault, type RecordLimits, readRecordText } from './json-records.ts'
import { type Admit, LineChunks } from './line-chunks.ts'
import { lineFault, notUtf8, tooLong } from './line-faults.ts'
import { LineReport } from './line-report.ts'
import { IDLE_STREAM_BYTES } from './memory.ts'
import type { Totals } from './record-totals.ts'
import { statusOf } from './results.ts'

interface LinesRequest {
  key: Key
  defaults: Defaults
  limits: RecordLimits
  /** Ends the stream at once, whatever it waits for. Its reason is a Problem. */
  stop: AbortSignal
  /** Withdraws the chunks that were not sent to the database. Aborted together with `stop` or after it. Its reason is a Problem. */
  withdraw?: AbortSignal
  /** The results are added to these while the lines are stored. */
  totals: Totals
  admit?: Admit
  /** Called with the current memory of the stream, in bytes. @throws Problem overloaded */
  reserve?: (bytes: number) => void
}

/** How far ahead Node.js reads a body: its highWaterMark. An idle stream has nothing read ahead. */
const READ_AHEAD_BYTES = 64 * 1024

/** Number of lines between two checks of the clock. They take a fraction of a millisecond. */
const LINES_PER_CHECK = 16

export interface LinesResponse {
  status: 200 | 201 | 207
  body: string
  counts: Counts
}

/**
 * Stores a stream of records, one per line, while it arrives and in constant memory. As with single requests, load decides the
 * size of a chunk: lines that arrive while others are being written form the next one, and a lone line is written at once. While
 * enough chunks are at the writer, the body is not read, so the sender waits.
 * @throws Problem if no line was stored, or if some lines could not be read or written; it contains the report
 */
export async function ingestLines(body: Readable, writer: Writer, request: LinesRequest): Promise<LinesResponse> {
  const report = new LineReport(request.totals)
  const chunks = new LineChunks(writer, report, request)
  const wake = () => chunks.wake()
  const withdraw = () => chunks.withdraw(request.withdraw?.reason)
  request.stop.addEventListener('abort', wake)
  request.withdraw?.addEventListener('abort', withdraw)
  let problem: unknown
  try {
    await readLines(body, request, chunks, report)
  } catch (error) {
    // The sender disconnected, or the body cannot be inflated: the complete lines are stored nevertheless. Or `stop` was
    // aborted: only what the writer already has is stored. Or it is a bug.
    problem = error
  }
  await chunks.finish()
  request.stop.removeEventListener('abort', wake)
  request.withdraw?.removeEventListener('abort', withdraw)
  problem = chunks.problem ?? problem
  if (problem !== undefined) throw report.explain(problem)
  const status = statusOf(report.counts)
  if (status === 'refused') throw report.explain(report.refusal())
  return { status, body: JSON.stringify(report), counts: report.counts }
}

async function readLines(body: Readable, request: LinesRequest, chunks: LineChunks, report: LineReport): Promise<void> {
  const { key, defaults, limits, stop } = request
  const cutter = new LineCutter(limits.maxRecordBytes + ADDED_BYTES)
  const reader = new BodyReader(body, stop)
  try {
    for (let bytes = await reader.next(); bytes !== undefined; bytes = await reader.next()) {
      reserveMemory(bytes.length + READ_AHEAD_BYTES)
      await take(cutter.push(bytes))
      reserveMemory()
      while ((chunks.hasRows || !chunks.isIdle) && chunks.problem === undefined && (await isQuiet(body))) {
        if (!chunks.isIdle) await Promise.race([reader.nextEvent(), chunks.nextDone()])
        else if (chunks.hasRows) await chunks.send()
        reserveMemory()
      }
      if (chunks.problem !== undefined) return
    }
  } finally {
    reader.close()
  }
  await take(cutter.end())
  // Reserves memory for the report and for what the last rows may add to it, so that the response fits into it.
  reserveMemory()

  function reserveMemory(unread = 0): void {
    request.reserve?.(
      IDLE_STREAM_BYTES + inflaterBytes(body) + unread + cutter.heldBytes + chunks.heldBytes + report.heldBytes,
    )
  }

  async function take(pieces: (Block | LongLine)[]): Promise<void> {
    for (const piece of pieces) {
      if (!('bytes' in piece)) {
        chunks.reachLine(piece.line)
        report.reject(piece.line, tooLong(piece, limits))
        continue
      }
      for (const [at, text] of textOf(piece.bytes).entries()) {
        const line = piece.firstLine + at
        // A block may have tens of thousands of lines.
        if (at % LINES_PER_CHECK === 0 && isTurnOver()) await waitForTurn(key.id)
        const record = readLine(line === 1 && typeof text === 'string' ? stripByteOrderMark(text) : text, line)
        if (record !== undefined) takeRecord(record instanceof Promise ? await record : record, text, line)
        if (chunks.isFull) await chunks.send()
      }
    }
  }

  /** @returns undefined for a blank line */
  function readLine(text: string | Buffer, line: number): Row | Fault | Promise<Row | Fault> | undefined {
    chunks.reachLine(line)
    if (typeof text !== 'string') return notUtf8(text, line)
    return /^[ \t\r]*$/.test(text) ? undefined : readRecordText(text, line - 1, limits, defaults, key.id)
  }

  function takeRecord(record: Row | Fault, text: string | Buffer, line: number): void {
    const fault = isFault(record) ? lineFault(record, text, line) : sourceFault(key, record.source, line - 1)
    if (fault === undefined) chunks.add(record as Row, line, Buffer.byteLength(text))
    else report.reject(line, fault)
  }
}

/** Whether nothing more has arrived. Bytes that are already in this process become readable within one iteration of the event loop. */
async function isQuiet(body: Readable): Promise<boolean> {
  if (body.readableLength === 0) await nextIteration()
  return body.readableLength === 0 && !body.readableEnded
}

/** The lines of a block; the bytes of a line that is not UTF-8. */
function textOf(bytes: Buffer): (string | Buffer)[] {
  const valid = isUtf8(bytes)
  const lines = bytes.toString(valid ? 'utf8' : 'latin1').split('\n')
  if (lines.at(-1) === '') lines.pop()
  if (valid) return lines
  // Rare: check each line separately, so that only the invalid one is rejected.
  return lines.map((line) => {
    const own = Buffer.from(line, 'latin1')
    return isUtf8(own) ? own.toString('utf8') : own
  })
}

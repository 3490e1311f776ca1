import { isUtf8 } from 'node:buffer'
import type { Readable } from 'node:stream'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Row } from '../data/row.ts'
import type { Fault } from '../lib/problems.ts'
import { isTurnOver, waitForTurn } from '../lib/turns.ts'
import { sourceFault } from '../operate/access.ts'
import type { Key } from '../operate/keys.ts'
import { withoutMark } from './body.ts'
import { BodyReader } from './body-reader.ts'
import type { Defaults } from './envelope.ts'
import { inflaterBytes } from './inflate.ts'
import { isFault, type RecordLimits, readRecordText } from './json-records.ts'
import { type Admit, LineChunks } from './line-chunks.ts'
import { LineReport } from './line-report.ts'
import { type Block, LineCutter, type LongLine } from './lines.ts'
import { IDLE_STREAM_BYTES } from './memory.ts'
import { type Counts, statusOf } from './results.ts'
import type { Writer } from './writer.ts'

export interface LinesRequest {
  key: Key
  defaults: Defaults
  limits: RecordLimits
  /** Ends the stream where it is, whatever it waits for. Its reason is a Problem: why. */
  stop: AbortSignal
  /** Takes back what was handed over and not sent to the database; aborted with `stop`, or after it. Its reason is a Problem. */
  withdraw?: AbortSignal
  /** What became of the lines is added here, while they are stored. */
  totals: Counts
  admit?: Admit
  /** Called with how many bytes of the stream are in memory. @throws Problem overloaded */
  hold?: (bytes: number) => void
}

/** What Node.js reads of a body beyond what was taken of it: its highWaterMark. A stream that is idle has none of it. */
const READ_AHEAD_BYTES = 64 * 1024

/** Lines that are taken between two looks at the clock, in a fraction of a millisecond. */
const LINES_PER_LOOK = 16

export interface LinesAnswer {
  status: 200 | 201 | 207
  body: string
  counts: Counts
}

/**
 * Stores a stream of records, a line each, while it still arrives and in constant memory. As with single requests the load
 * decides how many go together: those that arrive while others are being written; and a line that comes alone goes alone,
 * however long the next one takes. While the writer is busy with enough of them, the body is not read, and so the sender
 * waits.
 * @throws Problem when no line was stored, or not all lines could be read or written; it carries the report, too
 */
export async function ingestLines(body: Readable, writer: Writer, request: LinesRequest): Promise<LinesAnswer> {
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
    // The sender is gone, or sends what cannot be inflated: the lines that were whole are stored all the same. Or the stream
    // is to stop: then what the writer has is all that is stored. Or it is a defect.
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
  const cutter = new LineCutter(limits.maxRecordBytes)
  const reader = new BodyReader(body, stop)
  try {
    for (let bytes = await reader.next(); bytes !== undefined; bytes = await reader.next()) {
      tellHeld(bytes.length + READ_AHEAD_BYTES)
      await take(cutter.push(bytes))
      tellHeld()
      while ((chunks.hasRows || !chunks.isIdle) && chunks.problem === undefined && (await isQuiet(body))) {
        if (!chunks.isIdle) await Promise.race([reader.news(), chunks.nextDone()])
        else if (chunks.hasRows) await chunks.send()
        tellHeld()
      }
      if (chunks.problem !== undefined) return
    }
  } finally {
    reader.close()
  }
  await take(cutter.end())
  // The report and the rows that may yet add to it, so that the answer is within what is reserved now.
  tellHeld()

  function tellHeld(unread = 0): void {
    request.hold?.(
      IDLE_STREAM_BYTES + inflaterBytes(body) + unread + cutter.heldBytes + chunks.heldBytes + report.heldBytes,
    )
  }

  async function take(pieces: (Block | LongLine)[]): Promise<void> {
    for (const piece of pieces) {
      if (!('bytes' in piece)) {
        chunks.reachLine(piece.line)
        report.refuse(piece.line, tooLong(limits))
        continue
      }
      for (const [at, text] of textOf(piece.bytes).entries()) {
        const line = piece.firstLine + at
        // Of these, too, there may be tens of thousands in a block.
        if (at % LINES_PER_LOOK === 0 && isTurnOver()) await waitForTurn(key.id)
        const record = readLine(line === 1 && text !== undefined ? withoutMark(text) : text, line)
        if (record !== undefined) takeRecord(record instanceof Promise ? await record : record, text as string, line)
        if (chunks.isFull) await chunks.send()
      }
    }
  }

  /** @returns nothing for a blank one */
  function readLine(text: string | undefined, line: number): Row | Fault | Promise<Row | Fault> | undefined {
    chunks.reachLine(line)
    if (text === undefined) return NOT_UTF8
    return /^[ \t\r]*$/.test(text) ? undefined : readRecordText(text, line - 1, limits, defaults, key.id)
  }

  function takeRecord(record: Row | Fault, text: string, line: number): void {
    const fault = isFault(record) ? record : sourceFault(key, record.source, line - 1)
    if (fault === undefined) chunks.add(record as Row, line, Buffer.byteLength(text))
    else report.refuse(line, fault)
  }
}

/** Is nothing more there yet? What is on its way through this process arrives within a turn of the event loop. */
async function isQuiet(body: Readable): Promise<boolean> {
  if (body.readableLength === 0) await nextTurn()
  return body.readableLength === 0 && !body.readableEnded
}

const NOT_UTF8: Fault = { pointer: '', code: 'invalid_utf8', detail: 'The line is not UTF-8.' }

const tooLong = ({ maxRecordBytes }: RecordLimits): Fault => {
  return { pointer: '', code: 'record_too_large', detail: `The line is longer than ${maxRecordBytes} bytes.` }
}

/** The lines of a block; undefined for one that is not UTF-8. */
function textOf(bytes: Buffer): (string | undefined)[] {
  const valid = isUtf8(bytes)
  const lines: (string | undefined)[] = bytes.toString(valid ? 'utf8' : 'latin1').split('\n')
  if (lines.at(-1) === '') lines.pop()
  if (valid) return lines
  // Rare: each line by itself, so that only the guilty one is refused.
  return lines.map((line) => {
    const own = Buffer.from(line as string, 'latin1')
    return isUtf8(own) ? own.toString('utf8') : undefined
  })
}

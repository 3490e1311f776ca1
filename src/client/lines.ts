import { type Block, LineCutter, type LongLine } from '../ingest/lines.ts'

/** What an input holds of one record. */
export interface InputLine {
  /** Of the input, from 1: where the record begins. */
  number: number
  /** As it stands there, without the newline at its end. */
  original: Buffer
  /** As a line of NDJSON; undefined when it cannot be sent. */
  record?: Buffer
  /** Why it cannot be sent. */
  reason?: string
}

/** A piece of an input. */
export interface Piece {
  lines: InputLine[]
  /** All lines of the input up to this one are in here or before. */
  reached: number
}

/** How an input is taken apart. */
export interface Format {
  read(bytes: AsyncIterable<Buffer>): AsyncIterable<Piece>
  /** The line that a file of refused lines begins with; undefined while it is not known, and where there is none. */
  header?: Buffer | undefined
}

/** Longer than any server takes; what bounds the memory that a file without newlines can claim. */
export const MAX_LINE_BYTES = 16 * 1024 * 1024

export const tooLong = `It is longer than ${MAX_LINE_BYTES} bytes.`

const NEWLINE = 0x0a
const RETURN = 0x0d

/** What some programs on Windows begin a file with. */
export const BYTE_ORDER_MARK = Buffer.from('\ufeff')

/** The lines of a stream, without their newlines (but with a return before it); undefined for one that is too long. */
export async function* cutLines(bytes: AsyncIterable<Buffer>): AsyncGenerator<(Buffer | undefined)[]> {
  const cutter = new LineCutter(MAX_LINE_BYTES)
  let first = true
  for await (const chunk of bytes) {
    const lines = cutter.push(chunk).flatMap(split)
    if (lines.length === 0) continue
    if (first) lines[0] = withoutMark(lines[0])
    first = false
    yield lines
  }
  const lines = cutter.end().flatMap(split)
  if (lines.length > 0) yield first ? lines.map(withoutMark) : lines
}

function split(piece: Block | LongLine): (Buffer | undefined)[] {
  if (!('bytes' in piece)) return [undefined]
  const { bytes } = piece
  const lines: Buffer[] = []
  for (let from = 0; from < bytes.length; ) {
    const newline = bytes.indexOf(NEWLINE, from)
    const end = newline === -1 ? bytes.length : newline
    lines.push(bytes.subarray(from, end))
    from = end + 1
  }
  return lines
}

function withoutMark(bytes: Buffer | undefined): Buffer | undefined {
  return bytes?.subarray(0, 3).equals(BYTE_ORDER_MARK) ? bytes.subarray(3) : bytes
}

export function isBlank(line: Buffer): boolean {
  return line.every((byte) => byte === 0x20 || byte === 0x09 || byte === RETURN)
}

export const NDJSON: Format = {
  async *read(bytes) {
    let number = 0
    for await (const texts of cutLines(bytes)) {
      const lines: InputLine[] = []
      for (const original of texts) {
        number++
        if (original === undefined) lines.push({ number, original: Buffer.alloc(0), reason: tooLong })
        else if (!isBlank(original)) lines.push({ number, original, record: original })
      }
      yield { lines, reached: number }
    }
  },
}

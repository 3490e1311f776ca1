import { type Block, LineCutter, type LongLine } from '../lib/line-cutter.ts'

/** One record of an input. */
export type InputLine = SendableLine | UnsendableLine

interface Line {
  /** Number of the line, from 1, where the record begins. */
  number: number
  /** The text in the input, without the newline at its end. */
  original: Buffer
}

export interface SendableLine extends Line {
  /** The record as a line of NDJSON. */
  record: Buffer
  reason?: undefined
}

export interface UnsendableLine extends Line {
  record?: undefined
  /** Why it cannot be sent. */
  reason: string
}

/** A piece of an input. */
export interface Piece {
  lines: InputLine[]
  /** The last line of the input that is in this piece or in an earlier one. */
  reached: number
}

/** How an input is split into records. */
export interface FileFormat {
  read(bytes: AsyncIterable<Buffer>): AsyncIterable<Piece>
  /** The first line of a file of rejected lines; undefined: the format has none, or it has not been read yet. */
  header?: Buffer | undefined
}

/** More than any server accepts. Bounds the memory that a file without newlines takes. */
export const MAX_LINE_BYTES = 16 * 1024 * 1024

export const NOT_UTF8 = 'It is not UTF-8. Convert the file first, such as with iconv -f WINDOWS-1252 -t UTF-8.'

export const tooLong = `It is longer than ${MAX_LINE_BYTES} bytes.`

const NEWLINE = 0x0a
const RETURN = 0x0d

/** Some programs on Windows write this at the beginning of a file. */
export const BYTE_ORDER_MARK = Buffer.from('\ufeff')

/** The lines of a stream without newlines, but with carriage returns; undefined for a line that is too long. */
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

export const NDJSON: FileFormat = {
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

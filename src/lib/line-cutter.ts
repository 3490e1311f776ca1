import { Bytes } from './gathered-bytes.ts'

const NEWLINE = 0x0a

/** Whole lines, and their line numbers. */
export interface Block {
  /** Their bytes; the last line's newline may be missing at the end of the stream. */
  bytes: Buffer
  /** Line number of the first line, from 1. */
  firstLine: number
  /** How many lines. */
  lines: number
}

/** A line that is too long. Its content was dropped. */
export interface LongLine {
  line: number
  /** Its size in bytes, with its line break. */
  length: number
  /** Its first bytes. */
  start: Buffer
}

/** Enough to see a bracket after a byte order mark and some white space. */
const START_BYTES = 64

/**
 * Cuts a stream into blocks of whole lines, however its chunks are cut. Keeps at most one incomplete line. A line that
 * exceeds the limit is dropped as it arrives, and only its number is returned.
 */
export class LineCutter {
  readonly #maxLineBytes: number
  readonly #rest = new Bytes()
  #dropping = false
  /** Bytes of the line that is being dropped. */
  #dropped = 0
  #droppedStart = Buffer.alloc(0)
  #line = 1

  constructor(maxLineBytes: number) {
    this.#maxLineBytes = maxLineBytes
  }

  /** Size of the incomplete line. */
  get heldBytes(): number {
    return this.#rest.length
  }

  /** The lines that this chunk completes. */
  push(chunk: Buffer): (Block | LongLine)[] {
    const out: (Block | LongLine)[] = []
    let from = 0
    if (this.#rest.length > 0 || this.#dropping) {
      const end = chunk.indexOf(NEWLINE)
      if (end === -1) {
        this.#keep(chunk)
        return out
      }
      this.#keep(chunk.subarray(0, end + 1))
      out.push(this.#closeLine())
      from = end + 1
    }
    const end = chunk.lastIndexOf(NEWLINE) + 1
    if (end > from) {
      const bytes = chunk.subarray(from, end)
      const lines = count(bytes)
      out.push({ bytes, firstLine: this.#line, lines })
      this.#line += lines
    }
    if (chunk.length > Math.max(end, from)) this.#keep(chunk.subarray(Math.max(end, from)))
    return out
  }

  /** The last line, if the stream does not end with a newline. */
  end(): (Block | LongLine)[] {
    return this.#rest.length > 0 || this.#dropping ? [this.#closeLine()] : []
  }

  #keep(part: Buffer): void {
    if (this.#dropping) {
      this.#dropped += part.length
      return
    }
    this.#rest.add(part)
    // One more byte for the newline, and one for a carriage return before it.
    if (this.#rest.length > this.#maxLineBytes + 2) {
      this.#dropping = true
      this.#dropped = this.#rest.length
      this.#droppedStart = Buffer.from(this.#rest.start(START_BYTES))
      this.#rest.clear()
    }
  }

  #closeLine(): Block | LongLine {
    const line = this.#line++
    if (this.#dropping) {
      this.#dropping = false
      return { line, length: this.#dropped, start: this.#droppedStart }
    }
    return { bytes: this.#rest.take(), firstLine: line, lines: 1 }
  }
}

function count(bytes: Buffer): number {
  let lines = 0
  for (let at = bytes.indexOf(NEWLINE); at !== -1; at = bytes.indexOf(NEWLINE, at + 1)) lines++
  return lines
}

import { PAGE_HEAD_SIZE, pageArrayAt, pageEndAt } from '../lib/json/page.ts'
import { BYTE_ORDER_MARK, type FileFormat, type InputLine, MAX_LINE_BYTES, type Piece } from './lines.ts'

const [NEWLINE, RETURN, SPACE, TAB] = [0x0a, 0x0d, 0x20, 0x09]
const [QUOTE, BACKSLASH, COMMA] = [0x22, 0x5c, 0x2c]
const [OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d]

const isSpace = (byte: number) => byte === SPACE || byte === NEWLINE || byte === RETURN || byte === TAB

/**
 * An array of records, a page of them as GET /v1/records returns it, or records one after the other, with any line breaks. One
 * record is in memory at a time. Records are only cut, not parsed: parsing would round numbers, and the server reports what is wrong with a record.
 */
export const JSON_VALUES: FileFormat = {
  async *read(bytes) {
    const cutter = new ValueCutter()
    for await (const chunk of bytes) yield* cut((lines) => cutter.push(chunk, lines))
    yield* cut((lines) => cutter.end(lines))

    /** The values before a fault are complete: they are a piece, and then the fault ends the input. */
    function* cut(work: (lines: InputLine[]) => void): Generator<Piece> {
      const lines: InputLine[] = []
      try {
        work(lines)
      } finally {
        yield { lines, reached: cutter.reached }
      }
    }
  },
}

/**
 * A state machine over the bytes. States: `between` values; within a `value` that ends with its own quote or bracket; within a
 * `bare` value (a number or a word), which ends before the first byte that is not part of it; in the `tail` of a page, after its
 * array, which ends like a value. A page begins like a record; the bracket of its array shows that it is not one.
 */
class ValueCutter {
  #state: 'between' | 'value' | 'bare' | 'tail' = 'between'
  #inArray = false
  #inPage = false
  /** In a value: the number of open brackets, whether it is in a string, and whether a backslash precedes. */
  #depth = 0
  #inString = false
  #escaped = false
  #brokenString = false
  #line = 1
  /** Of the current value: the line where it began, and its bytes in earlier chunks. */
  #valueLine = 1
  #parts: Buffer[] = []
  #size = 0
  /** How many bytes of a byte order mark were skipped. Its full length: no byte order mark can follow. */
  #mark = 0

  /** The last line before a value that is not complete. */
  get reached(): number {
    return this.#state === 'between' ? this.#line - 1 : this.#valueLine - 1
  }

  /** @param lines gets the values that end in these bytes. @throws if this cannot be JSON */
  push(bytes: Buffer, lines: InputLine[]): void {
    let start = 0
    for (let at = 0; at < bytes.length; at++) {
      const byte = bytes[at] as number
      if (this.#mark < BYTE_ORDER_MARK.length) {
        if (byte === BYTE_ORDER_MARK[this.#mark++]) continue
        this.#mark = BYTE_ORDER_MARK.length
      }
      if (this.#state === 'bare' && (isSpace(byte) || byte === COMMA || byte === CLOSE_ARRAY)) {
        lines.push(this.#take(bytes.subarray(start, at)))
      }
      if (byte === NEWLINE) this.#line++
      if (this.#state === 'between') {
        if (this.#begin(byte)) start = at
      } else if (this.#state === 'tail') {
        if (this.#isLast(byte)) this.#endPage(bytes.subarray(start, at + 1))
      } else if (this.#state === 'value') {
        if (this.#isLast(byte)) lines.push(this.#take(bytes.subarray(start, at + 1)))
        else if (byte === OPEN_ARRAY) this.#tryPage(bytes.subarray(start, at + 1))
      }
    }
    if (this.#state !== 'between') this.#keep(bytes.subarray(start))
  }

  /** @param lines gets the last value. @throws if the input is incomplete */
  end(lines: InputLine[]): void {
    if (this.#state === 'tail') throw new Error(`it ends on line ${this.#line}, but the page is not closed`)
    if (this.#state === 'value') throw new Error(`it ends within the record that begins on line ${this.#valueLine}`)
    if (this.#state === 'bare') lines.push(this.#take(Buffer.alloc(0)))
    if (this.#inArray) throw new Error(`it ends on line ${this.#line}, but the array is not closed`)
    // The last line may end without a newline.
    this.#line++
  }

  /** Handles a byte outside of values. @returns whether a value begins here */
  #begin(byte: number): boolean {
    if (isSpace(byte) || byte === COMMA) return false
    if (byte === (this.#inArray ? CLOSE_ARRAY : OPEN_ARRAY)) {
      this.#inArray = !this.#inArray
      if (!this.#inPage) return false
      // The brace of the page is still open.
      this.#state = 'tail'
      this.#depth = 1
      return true
    }
    if (byte === CLOSE_ARRAY || byte === CLOSE_OBJECT)
      throw new Error(`the ${String.fromCharCode(byte)} on line ${this.#line} closes nothing`)
    this.#valueLine = this.#line
    // A quote or a bracket opens something that must close.
    this.#state = this.#isLast(byte) ? 'bare' : 'value'
    return true
  }

  /** After a bracket within a value: if the value is a page, its records follow. */
  #tryPage(text: Buffer): void {
    if (this.#depth !== 2 || this.#inArray || this.#size + text.length > PAGE_HEAD_SIZE) return
    const head = Buffer.concat([...this.#parts, text]).toString('latin1')
    if (pageArrayAt(head, 0) !== head.length) return
    this.#reset()
    this.#depth = 0
    this.#inArray = true
    this.#inPage = true
  }

  #endPage(text: Buffer): void {
    const tail = Buffer.concat([...this.#parts, text]).toString('latin1')
    // The first character is the bracket of the array.
    if (pageEndAt(tail, 1) !== tail.length)
      throw new Error(
        `after its records, a page may contain only next and count, but line ${this.#line} has something else. Use: jq -c '.records[]' FILE | sluice load - …`,
      )
    this.#reset()
    this.#inPage = false
  }

  /** Handles a byte of a value. @returns whether nothing is open after it */
  #isLast(byte: number): boolean {
    if (this.#inString) {
      if (this.#escaped) this.#escaped = false
      else if (byte === BACKSLASH) this.#escaped = true
      else if (byte === QUOTE) this.#inString = false
      else if (byte === NEWLINE || byte === RETURN) this.#brokenString = true
    } else if (byte === QUOTE) this.#inString = true
    else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) this.#depth++
    else if (byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) this.#depth--
    return this.#depth === 0 && !this.#inString
  }

  #keep(part: Buffer): void {
    this.#parts.push(part)
    this.#size += part.length
    if (this.#size > MAX_LINE_BYTES)
      throw new Error(`the record that begins on line ${this.#valueLine} is longer than ${MAX_LINE_BYTES} bytes`)
  }

  /** The value is complete. */
  #take(last: Buffer): InputLine {
    this.#keep(last)
    const value = Buffer.concat(this.#parts, this.#size)
    const line: InputLine = this.#brokenString
      ? {
          number: this.#valueLine,
          original: value,
          reason: 'A string in it contains a line break. In JSON, write it as \\n.',
        }
      : { number: this.#valueLine, original: value, record: onOneLine(value) }
    this.#reset()
    return line
  }

  #reset(): void {
    this.#parts = []
    this.#size = 0
    this.#brokenString = false
    this.#state = 'between'
  }
}

/** Replaces line breaks, which are white space outside of strings. Changes the buffer. */
function onOneLine(value: Buffer): Buffer {
  for (let at = 0; at < value.length; at++) {
    if (value[at] === NEWLINE || value[at] === RETURN) value[at] = SPACE
  }
  return value
}

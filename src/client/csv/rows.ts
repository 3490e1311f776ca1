import { isBlank, MAX_LINE_BYTES } from '../lines.ts'
import { hasOddQuotes, scanLine } from './quotes.ts'

const [QUOTE, RETURN] = [0x22, 0x0d]
const NEWLINE = Buffer.from('\n')

/** A row as in the file. A quoted cell may contain newlines. */
export interface CsvRow {
  /** Number of its first line. */
  number: number
  original: Buffer
  /** Whether a cell without quotes contains one. */
  hasStray: boolean
  /** Why it is rejected, as a sentence. */
  fault: string | undefined
}

/** How many lines it takes to see whether they are rows. Checked again each time that their number has doubled. */
const ENOUGH_LINES = 8
const MOST = 0.75

const NEVER_CLOSED = 'A quote that opens in it is never closed.'

/**
 * Joins lines into rows. csv-parse cannot do this: after a wrong quote it finds no further row, and the text that it returns with a
 * row has other bytes if they are not UTF-8.
 *
 * A wrong quote must not swallow the rows after it. Once a fault is found, the row continues while the number of its quotes is odd.
 * If most of its lines from the second one on are rows when they are read alone, then only its first line is rejected.
 */
export class RowCutter {
  /** Both are known when the header has been read. */
  delimiter: Buffer
  columns: number | undefined
  /** The last line that is part of a complete row, or blank. */
  reached = 0
  /** The lines of the row that is not complete, and what is known of it. */
  #lines: Buffer[] = []
  #size = 0
  #isOpen = false
  #hasStray = false
  #fault: string | undefined
  /** The fault, if it is in the first line. */
  #firstFault: string | undefined

  constructor(delimiter: string) {
    this.delimiter = Buffer.from(delimiter)
  }

  /**
   * @param line without its newline; undefined: it is too long
   * @param rows gets the rows that end with this line
   * @throws Error with a sentence if the row is too long
   */
  push(line: Buffer | undefined, rows: CsvRow[]): void {
    if (line === undefined) throw this.#tooLong()
    /** The lines to read, the next one last. */
    const left = [line]
    for (let next = left.pop(); next !== undefined; next = left.pop()) {
      this.#add(next)
      const isFaulty = this.#fault !== undefined
      if (this.#size > MAX_LINE_BYTES && !this.#isSwallowing()) throw this.#tooLong()
      if (this.#size > MAX_LINE_BYTES || (isFaulty && this.#isTimeToDecide() && this.#isSwallowing()))
        for (const other of this.#refuseFirst(rows).reverse()) left.push(other)
      else if (!this.#isOpen) this.#take(rows)
    }
  }

  /** @param rows gets the last rows. @throws Error with a sentence if lines may be part of a row that is incomplete */
  end(rows: CsvRow[]): void {
    while (this.#lines.length > 0) {
      if (!this.#isSwallowing() && !this.#isAlone())
        throw new Error(`a quote that opens on line ${this.reached + 1} is never closed`)
      for (const line of this.#refuseFirst(rows)) this.push(line, rows)
    }
  }

  #add(line: Buffer): void {
    this.#lines.push(line)
    this.#size += line.length + 1
    if (this.#fault !== undefined) this.#isOpen = this.#isOpen !== hasOddQuotes(line)
    // Most lines have neither a quote nor a carriage return before their end.
    else if (this.#isOpen || line.includes(QUOTE) || line.subarray(0, -1).includes(RETURN)) {
      const { isOpen, hasStray, fault } = scanLine(line, this.delimiter, this.#isOpen)
      this.#isOpen = isOpen
      this.#hasStray ||= hasStray
      this.#fault = fault
      if (this.#lines.length === 1) this.#firstFault = fault
    }
  }

  /** The row is complete. */
  #take(rows: CsvRow[]): void {
    const original = withoutReturn(Buffer.concat(this.#lines.flatMap((line) => [line, NEWLINE]).slice(0, -1)))
    const row = { number: this.reached + 1, original, hasStray: this.#hasStray, fault: this.#fault }
    this.reached += this.#lines.length
    this.#reset()
    if (!isBlank(original)) rows.push(row)
  }

  /** Refuses the first line alone. @returns the others, to be read again */
  #refuseFirst(rows: CsvRow[]): Buffer[] {
    const [first = Buffer.alloc(0), ...others] = this.#lines
    const fault = this.#firstFault ?? NEVER_CLOSED
    this.#reset()
    rows.push({ number: ++this.reached, original: withoutReturn(first), hasStray: false, fault })
    return others
  }

  #reset(): void {
    this.#lines = []
    this.#size = 0
    this.#isOpen = false
    this.#hasStray = false
    this.#fault = undefined
    this.#firstFault = undefined
  }

  /** With every line, the check would take longer. */
  #isTimeToDecide(): boolean {
    const others = this.#lines.length - 1
    return !this.#isOpen || (others >= ENOUGH_LINES && (others & (others - 1)) === 0)
  }

  /** Whether a quote in the first line seems to have swallowed rows. A text of several lines has the right number of cells in few. */
  #isSwallowing(): boolean {
    const others = this.#lines.slice(1).filter((line) => !isBlank(line))
    return others.length > 0 && others.filter((line) => this.#isRow(line)).length >= others.length * MOST
  }

  /** Whether no line follows the first one, which is not the header. */
  #isAlone(): boolean {
    return this.columns !== undefined && this.#lines.slice(1).every(isBlank)
  }

  /** Whether a line, read alone, is a row, or begins one. In a single column, every text is a row. */
  #isRow(line: Buffer): boolean {
    if (this.columns === undefined || this.columns < 2) return false
    const { isOpen, cells, hasStray, fault } = scanLine(line, this.delimiter, false)
    return !hasStray && fault === undefined && (isOpen ? cells <= this.columns : cells === this.columns)
  }

  #tooLong(): Error {
    return new Error(
      `the row that begins on line ${this.reached + 1} is longer than ${MAX_LINE_BYTES} bytes. Perhaps a quote in it is not closed`,
    )
  }
}

/** Removes the carriage return at the end of a row. */
const withoutReturn = (row: Buffer) => (row.at(-1) === RETURN ? row.subarray(0, -1) : row)

import { isUtf8 } from 'node:buffer'
import { type Options, parse } from 'csv-parse/sync'
import { checkHeader, checkHeaderLines, isExport, readSeparator } from './csv-header.ts'
import { normalizeLineEnds } from './csv-line-ends.ts'
import { type Cell, type Mapping, planRecords, type ToRecord } from './csv-mapping.ts'
import { cutLines, type FileFormat, type InputLine, isBlank, MAX_LINE_BYTES } from './lines.ts'

const QUOTE = 0x22
const RETURN = 0x0d
const NEWLINE = Buffer.from('\n')
export const DEFAULT_DELIMITER = ','

/** A row as in the file. A quoted cell may contain newlines. */
interface CsvRow {
  number: number
  original: Buffer
}

/**
 * CSV (RFC 4180) with a header. The text is cut into rows before they are parsed, so that each wrong row is rejected alone, with
 * its line number and its text.
 */
export function csv(delimiter: string, mapping: Mapping): FileFormat {
  const options: Options = { delimiter, record_delimiter: '\n', relax_column_count: true }
  const format: FileFormat = { read, header: undefined }
  return format

  async function* read(bytes: AsyncIterable<Buffer>) {
    let toRecord: ToRecord | undefined
    const { bytes: normal, restore, lineEnd } = await normalizeLineEnds(bytes)
    options.record_delimiter = lineEnd
    for await (const piece of cutRows(normal)) {
      const rows = piece.rows.map(({ number, original }) => ({ number, original: restore(original) }))
      if (toRecord === undefined) readSeparatorOf(rows)
      const header = toRecord === undefined ? rows.shift() : undefined
      if (header !== undefined) toRecord = readHeader(header)
      if (toRecord !== undefined) yield { lines: toLines(rows, toRecord), reached: piece.reached }
    }
    if (toRecord === undefined) throw new Error('it is empty: CSV begins with a header')
  }

  /** Removes the first row if it says what is between the cells. */
  function readSeparatorOf(rows: CsvRow[]): void {
    const separator = format.header === undefined && rows[0] !== undefined ? readSeparator(rows[0].original) : undefined
    if (separator === undefined) return
    if (delimiter !== DEFAULT_DELIMITER && delimiter !== separator)
      throw new Error(`its first line says sep=${separator}, but --delimiter is ${delimiter}`)
    options.delimiter = separator
    format.header = rows.shift()?.original
  }

  function readHeader(row: CsvRow): ToRecord {
    checkHeaderLines(row.original)
    const read = parseRow(row)
    if ('reason' in read) throw new Error(`its header cannot be read: ${read.reason}`)
    const names = read.cells.map((cell) => cell ?? '')
    const exported = isExport(names, mapping)
    if (exported) options.cast = (text, { quoting }) => (text === '' && !quoting ? null : text)
    checkHeader(names, options.delimiter as string, mapping, exported)
    format.header = Buffer.concat([...(format.header === undefined ? [] : [format.header, NEWLINE]), row.original])
    return planRecords(names, mapping, exported)
  }

  function toLines(rows: CsvRow[], toRecord: ToRecord): InputLine[] {
    const parsed = parseAll(rows)
    return rows.map((row, at) => {
      const cells = parsed?.[at]
      const read = cells === undefined ? parseRow(row) : { cells }
      const made = 'reason' in read ? read : isEmpty(read.cells) ? ALL_EMPTY : toRecord(read.cells)
      return 'reason' in made ? { ...row, ...made } : { ...row, record: Buffer.from(made.record) }
    })
  }

  /** Parses all rows at once. @returns undefined if something is wrong with any of them */
  function parseAll(rows: readonly CsvRow[]): Cell[][] | undefined {
    const end = Buffer.from(options.record_delimiter as string)
    const text = Buffer.concat(rows.flatMap(({ original }) => [original, end]))
    if (!isUtf8(text) || rows.some(({ original }) => hasStrayLineEnd(original))) return undefined
    try {
      const parsed: Cell[][] = parse(text, options)
      return parsed.length === rows.length ? parsed : undefined
    } catch {
      return undefined
    }
  }

  function parseRow({ original }: CsvRow): { cells: Cell[] } | { reason: string } {
    if (!isUtf8(original)) return { reason: 'It is not UTF-8.' }
    if (hasStrayLineEnd(original)) return { reason: STRAY_LINE_END }
    try {
      const [cells, ...others] = parse(original, options)
      return others.length > 0 || cells === undefined ? { reason: 'Its quotes do not match.' } : { cells }
    } catch (error) {
      // The line number in the message counts within the row, so it is removed.
      return { reason: `${(error as Error).message.replace(/ (?:at|on) line \d+/, '')}.` }
    }
  }
}

const isEmpty = (cells: readonly Cell[]) => cells.every((cell) => cell === null || cell.trim() === '')

// Spreadsheets write such rows below a table. As a record, it would have a made-up id and no content.
const ALL_EMPTY = { reason: 'All its cells are empty.' }

const STRAY_LINE_END = 'Outside quotes, it contains a \\r or \\n that does not end lines in this file.'

/** csv-parse would take it for a part of the cell. */
function hasStrayLineEnd(row: Buffer): boolean {
  if (!row.includes(RETURN) && !row.includes(NEWLINE)) return false
  let isOpen = false
  for (const byte of row) {
    if (byte === QUOTE) isOpen = !isOpen
    else if (!isOpen && (byte === RETURN || byte === NEWLINE[0])) return true
  }
  return false
}

/**
 * Joins lines into rows: a quoted cell continues until the number of quotes is even. csv-parse cannot do this: after a wrong quote
 * it finds no further row, and the text that it returns with a row has other bytes if they are not UTF-8.
 * @throws if a row is too long, or the last one is incomplete
 */
async function* cutRows(bytes: AsyncIterable<Buffer>): AsyncGenerator<{ rows: CsvRow[]; reached: number }> {
  /** The last line that is part of a complete row, or blank. */
  let reached = 0
  let line = 0
  let parts: Buffer[] = []
  let size = 0
  let isOpen = false
  for await (const lines of cutLines(bytes)) {
    const rows: CsvRow[] = []
    for (const part of lines) {
      line++
      size += part?.length ?? Number.POSITIVE_INFINITY
      if (part === undefined || size > MAX_LINE_BYTES)
        throw new Error(`the row that begins on line ${reached + 1} is longer than ${MAX_LINE_BYTES} bytes`)
      for (let at = part.indexOf(QUOTE); at !== -1; at = part.indexOf(QUOTE, at + 1)) isOpen = !isOpen
      parts.push(part, NEWLINE)
      if (isOpen) continue
      const original = withoutReturn(Buffer.concat(parts.slice(0, -1)))
      if (!isBlank(original)) rows.push({ number: reached + 1, original })
      reached = line
      parts = []
      size = 0
    }
    yield { rows, reached }
  }
  if (isOpen) throw new Error(`a quote that opens on line ${reached + 1} is never closed`)
}

/** Removes the carriage return at the end of a row. */
const withoutReturn = (row: Buffer) => (row.at(-1) === RETURN ? row.subarray(0, -1) : row)

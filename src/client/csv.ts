import { isUtf8 } from 'node:buffer'
import { type Options, parse } from 'csv-parse/sync'
import { checkHeaderLines, isExport, planHeader, readSeparator } from './csv/header.ts'
import { normalizeLineEnds } from './csv/line-ends.ts'
import { planRecords, type ToRecord } from './csv/mapping.ts'
import { type CsvRow, RowCutter } from './csv/rows.ts'
import { cutLines, type FileFormat, type InputLine, NOT_UTF8 } from './lines.ts'
import type { Cell, Mapping } from './mapping.ts'

const NEWLINE = Buffer.from('\n')
export const DEFAULT_DELIMITER = ','

/**
 * CSV (RFC 4180) with a header. The text is cut into rows before they are parsed, so that each wrong row is rejected alone, with
 * its line number and its text.
 */
export function csv(delimiter: string, mapping: Mapping): FileFormat {
  const options: Options = { delimiter, record_delimiter: '\n', relax_column_count: true, relax_quotes: true }
  const format: FileFormat = { read, header: undefined }
  return format

  async function* read(bytes: AsyncIterable<Buffer>) {
    const cutter = new RowCutter(delimiter)
    let toRecord: ToRecord | undefined
    const { bytes: normal, restore, lineEnd } = await normalizeLineEnds(bytes)
    options.record_delimiter = lineEnd
    for await (const lines of cutLines(normal)) yield toPiece(lines.flatMap((line) => takeHeader(cutter.push(line))))
    yield toPiece(takeHeader(cutter.end()))
    if (toRecord === undefined) throw new Error('it is empty: CSV begins with a header')

    /** The rows that are not the header. */
    function takeHeader(cut: CsvRow[]): CsvRow[] {
      const rows = cut.map((row) => ({ ...row, original: restore(row.original) }))
      if (toRecord === undefined) readSeparatorOf(rows, cutter)
      const header = toRecord === undefined ? rows.shift() : undefined
      if (header !== undefined) toRecord = readHeader(header, cutter)
      return rows
    }

    function toPiece(rows: CsvRow[]) {
      return { lines: toRecord === undefined ? [] : toLines(rows, toRecord), reached: cutter.reached }
    }
  }

  /** Removes the first row if it says what is between the cells. */
  function readSeparatorOf(rows: CsvRow[], cutter: RowCutter): void {
    const separator = format.header === undefined && rows[0] !== undefined ? readSeparator(rows[0].original) : undefined
    if (separator === undefined) return
    if (delimiter !== DEFAULT_DELIMITER && delimiter !== separator)
      throw new Error(`its first line says sep=${separator}, but --delimiter is ${delimiter}`)
    options.delimiter = separator
    cutter.delimiter = Buffer.from(separator)
    format.header = rows.shift()?.original
  }

  function readHeader({ original, fault, hasStray }: CsvRow, cutter: RowCutter): ToRecord {
    checkHeaderLines(original)
    const why = fault ?? (isUtf8(original) ? (hasStray ? 'A quote is within a name.' : undefined) : NOT_UTF8)
    if (why !== undefined) throw new Error(`its header cannot be read: ${why}`)
    const names = parseRows([original])[0]?.map((cell) => cell ?? '') ?? []
    const exported = isExport(names, mapping)
    if (exported) options.cast = (text, { quoting }) => (text === '' && !quoting ? null : text)
    const plan = planHeader(names, options.delimiter as string, mapping, exported, (found) =>
      planRecords(found, mapping, exported),
    )
    format.header = Buffer.concat([...(format.header === undefined ? [] : [format.header, NEWLINE]), original])
    cutter.columns = names.length
    return plan
  }

  function toLines(rows: CsvRow[], toRecord: ToRecord): InputLine[] {
    const faults = rows.map(({ original, fault }) => fault ?? (isUtf8(original) ? undefined : NOT_UTF8))
    const parsed = parseRows(rows.filter((_, at) => faults[at] === undefined).map(({ original }) => original)).values()
    return rows.map(({ number, original }, at) => {
      const reason = faults[at]
      if (reason !== undefined) return { number, original, reason }
      const cells = parsed.next().value ?? []
      const made = isEmpty(cells) ? ALL_EMPTY : toRecord(cells)
      return 'reason' in made ? { number, original, ...made } : { number, original, record: Buffer.from(made.record) }
    })
  }

  /** The cells of rows without a fault. */
  function parseRows(rows: readonly Buffer[]): Cell[][] {
    const end = Buffer.from(options.record_delimiter as string)
    const parsed: Cell[][] = parse(Buffer.concat(rows.flatMap((row) => [row, end])), options)
    // Otherwise, rows would get the cells of others.
    if (parsed.length !== rows.length) throw new Error(`${rows.length} rows were read as ${parsed.length}`)
    return parsed
  }
}

const isEmpty = (cells: readonly Cell[]) => cells.every((cell) => cell === null || cell.trim() === '')

// Spreadsheets write such rows below a table. As a record, it would have a made-up id and no content.
const ALL_EMPTY = { reason: 'All its cells are empty.' }

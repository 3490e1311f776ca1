import { isUtf8 } from 'node:buffer'
import { type Options, parse } from 'csv-parse/sync'
import { checkFirstRow } from './csv/first-row.ts'
import { checkHeaderLines, isExport, planHeader, readSeparator } from './csv/header.ts'
import { normalizeLineEnds } from './csv/line-ends.ts'
import { planRecords, type ToRecord } from './csv/mapping.ts'
import { type CsvRow, RowCutter } from './csv/rows.ts'
import { cutLines, type FileFormat, type InputLine, NOT_UTF8, type Piece } from './lines.ts'
import type { Cell, Mapping } from './mapping.ts'

const NEWLINE = Buffer.from('\n')
export const DEFAULT_DELIMITER = ','

/**
 * CSV (RFC 4180) with a header. The text is cut into rows before they are parsed, so that each wrong row is rejected alone, with
 * its line number and its text.
 * @param isGiven whether an option names the delimiter, so that it is not doubted
 */
export function csv(delimiter: string, mapping: Mapping, isGiven = false): FileFormat {
  const options: Options = { delimiter, record_delimiter: '\n', relax_column_count: true, relax_quotes: true }
  const format: FileFormat = { read, header: undefined }
  /** The header, until it was compared with a row. */
  let unchecked: { text: string; cells: readonly Cell[] } | undefined
  return format

  async function* read(bytes: AsyncIterable<Buffer>) {
    const cutter = new RowCutter(delimiter)
    let toRecord: ToRecord | undefined
    const { bytes: normal, restore, lineEnd } = await normalizeLineEnds(bytes)
    options.record_delimiter = lineEnd
    for await (const lines of cutLines(normal)) {
      yield* cut((rows) => {
        for (const line of lines) {
          cutter.push(line, rows)
          if (toRecord === undefined) takeHeader(rows)
        }
      })
    }
    yield* cut((rows) => {
      cutter.end(rows)
      if (toRecord === undefined) takeHeader(rows)
    })
    if (toRecord === undefined) throw new Error('it is empty: CSV begins with a header')

    /** The rows before a fault are complete: they are a piece, and then the fault ends the input. */
    function* cut(work: (rows: CsvRow[]) => void): Generator<Piece> {
      const rows: CsvRow[] = []
      try {
        work(rows)
      } finally {
        if (toRecord !== undefined) yield { lines: toLines(rows, toRecord, restore), reached: cutter.reached }
      }
    }

    /** Removes the header from the rows. */
    function takeHeader(rows: CsvRow[]): void {
      readSeparatorOf(rows, cutter)
      const header = rows.shift()
      if (header !== undefined) toRecord = readHeader({ ...header, original: restore(header.original) }, cutter)
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
    if (!exported) unchecked = { text: original.toString(), cells: names }
    return plan
  }

  /** @param restore gives the text of a row its original bytes back */
  function toLines(cut: CsvRow[], toRecord: ToRecord, restore: (part: Buffer) => Buffer): InputLine[] {
    const rows = cut.map((row) => ({ ...row, original: restore(row.original) }))
    const faults = rows.map(({ original, fault }) => fault ?? (isUtf8(original) ? undefined : NOT_UTF8))
    const good = rows.filter((_, at) => faults[at] === undefined)
    const found = parseRows(good.map(({ original }) => original))
    const [first] = found
    if (unchecked !== undefined && first !== undefined) {
      const text = String(good[0]?.original)
      checkFirstRow(unchecked, { text, cells: first }, isGiven ? undefined : (options.delimiter as string), mapping)
      unchecked = undefined
    }
    const parsed = found.values()
    return rows.map(({ number, original }, at) => {
      const reason = faults[at]
      if (reason !== undefined) return { number, original, reason }
      const cells = parsed.next().value ?? []
      const made = isEmpty(cells) ? ALL_EMPTY : toRecord(cells, number)
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

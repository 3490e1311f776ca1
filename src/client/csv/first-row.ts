import { quoted } from '../../lib/quoted.ts'
import { type Cell, type Mapping, shell, Unfit } from '../mapping.ts'
import { DELIMITERS, delimiterOption, delimiterWord, isMentioned, LATER_HEADER } from './header.ts'

/** A row as text and as cells. */
interface Row {
  text: string
  cells: readonly Cell[]
}

/** What a name rarely is, and its cell neither by chance. A year is a name of a column with other numbers. */
const KINDS: readonly RegExp[] = [
  /^(?!(?:19|20)\d\d$)[+-]?\d+$/,
  /^(?:19|20)\d\d$/,
  /^(?:\d{4}([-/.])\d\d?\1\d\d?|\d\d?([-/.])\d\d?\2\d{4})(?!\d)/,
  /^[^\s@]+@[^\s@]+\.[^\s@]+$/,
  /^[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}$/i,
  /^(?:\d{1,3}\.){3}\d{1,3}$/,
  /^https?:\/\//i,
]

/**
 * Compares the header with the first row, which shows whether the header is a row itself, or whether another delimiter separates
 * the cells.
 * @param delimiter the one in use; undefined: an option names it, so it is not doubted
 * @throws Unfit
 */
export function checkFirstRow(header: Row, first: Row, delimiter: string | undefined, mapping: Mapping): void {
  const other = delimiter === undefined ? undefined : findOther(header.text, first.text, delimiter)
  if (other !== undefined)
    throw new Unfit(
      `its header and its first row have the same number of ${quoted(other)}. If these separate the cells, use --delimiter ${delimiterWord(other)}; if not, use --delimiter ${delimiterWord(delimiter ?? '')}`,
      delimiterOption(other),
    )
  if (header.cells.length === 1 && first.cells.length > 1)
    throw new Unfit(
      `its first line is a single column, ${quoted(header.cells[0] ?? '')}, but the next row has ${first.cells.length} cells${LATER_HEADER}`,
      [],
    )
  const at = header.cells.findIndex((name, index) => isSameKind(name ?? '', first.cells[index] ?? ''))
  const name = header.cells[at] ?? ''
  if (at === -1 || isMentioned(name, mapping)) return
  throw new Unfit(
    `its column ${at + 1}, ${quoted(name)}, looks like data, as ${quoted(first.cells[at] ?? '')} below it: the first line of a CSV file must be a header with the names of the columns. If it is a name, mention it, such as with --number ${shell(name)}`,
    [],
  )
}

/** Another delimiter that occurs equally often in both, outside of quotes. Spaces are also between words, so these must be several. */
function findOther(header: string, row: string, delimiter: string): string | undefined {
  const count = (text: string, sign: string) => text.replaceAll(/"(?:[^"]|"")*"/g, '').split(sign).length - 1
  return [...DELIMITERS, ' '].find((sign) => {
    const inHeader = sign === delimiter ? 0 : count(header, sign)
    if (sign === ' ' && (inHeader < 2 || count(header, delimiter) > 0)) return false
    return inHeader > 0 && inHeader === count(row, sign)
  })
}

const isSameKind = (name: string, cell: string) =>
  KINDS.some((kind) => kind.test(name.trim()) && kind.test(cell.trim()))

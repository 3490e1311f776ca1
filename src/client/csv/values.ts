import { quoted } from '../../lib/printable.ts'
import { type Cell, type Decimal, type Mapping, shell } from '../mapping.ts'

interface Column {
  name: string
  /** Its index in a row. */
  at: number
}

/** The value of a cell as JSON; null: it has none. Or why it has no value, as a sentence. */
export type ReadCell = (cell: Cell | undefined) => { json: string | null } | { reason: string }

/** How the cells of a column are read: as text, as JSON or as numbers. Text may be empty, and is then no value of an attribute. */
export function cellReader({ name }: Column, { json, numbers, nulls, decimal = '.' }: Mapping): ReadCell {
  const read = json.has(name) ? (cell: string) => readJson(cell, name) : numbers?.has(name) ? readNumber : readText
  return (cell) => (typeof cell === 'string' && nulls?.has(cell) ? { json: null } : read(cell ?? ''))

  function readText(cell: string): ReturnType<ReadCell> {
    return { json: JSON.stringify(cell) }
  }

  function readNumber(cell: string): ReturnType<ReadCell> {
    if (cell === '') return { json: null }
    const number = toNumber(cell.trim(), decimal)
    return number === undefined
      ? {
          reason: `${shown(cell)} in the column ${quoted(name)} is not a number. ${suggestForNumber(cell.trim(), name, decimal)}`,
        }
      : { json: number }
  }
}

/** The text of the cell on one line. It is not parsed, so that all digits of numbers stay. */
export function readJson(cell: string, column: string): ReturnType<ReadCell> {
  if (cell === '') return { json: null }
  try {
    JSON.parse(cell)
    // In JSON a newline is white space, because strings cannot contain it.
    return { json: cell.replaceAll(/[\r\n]/g, ' ').trim() }
  } catch {
    return { reason: `${shown(cell)} in the column ${quoted(column)} is not JSON. ${suggestForJson(cell, column)}` }
  }
}

/**
 * A number as JSON writes it, with the same digits: `.097` → `0.097`, `+1` → `1`, `1.` → `1`, and `1,50` → `1.50` if the decimal
 * sign is a comma.
 */
function toNumber(text: string, decimal: Decimal): string | undefined {
  const [, sign, whole = '', point, fraction = '', exponent = ''] =
    /^([+-]?)(0|[1-9]\d*)?(?:([.,])(\d*))?([eE][+-]?\d+)?$/.exec(text) ?? []
  if (sign === undefined || (whole === '' && fraction === '') || (point ?? decimal) !== decimal) return undefined
  return `${sign.replace('+', '')}${whole || '0'}${fraction === '' ? '' : `.${fraction}`}${exponent}`
}

function suggestForJson(cell: string, name: string): string {
  const text = cell.trim()
  const decimal = (['.', ','] as const).find((sign) => toNumber(text, sign) !== undefined)
  const instead = `Use --number ${shell(name)} instead of --json`
  if (decimal === '.') return `${instead}: JSON writes ${toNumber(text, decimal)}.`
  if (decimal === ',') return `${instead}, and --decimal ,: JSON writes ${toNumber(text, decimal)}.`
  return isNoValue(text) ? noValue(cell) : `If it is text, omit --json ${shell(name)}.`
}

function suggestForNumber(text: string, name: string, decimal: Decimal): string {
  const other = decimal === '.' ? ',' : '.'
  const asText = `omit --number ${shell(name)} to keep it as text.`
  if (isNoValue(text)) return noValue(text)
  if (/^[+-]?0\d/.test(text)) return `It begins with 0, so it may be a code: ${asText}`
  if (toNumber(text, other) !== undefined)
    return `If its decimal separator is ${other}, use --decimal ${other}. If ${other} separates thousands, remove it, or ${asText}`
  return /^[+-]?\d{1,3}(?:[., '\u2019\u00a0\u202f]\d{3})+(?:[.,]\d+)?$/.test(text)
    ? `Remove what separates its thousands, or ${asText}`
    : `Correct it, or ${asText}`
}

const isNoValue = (text: string) =>
  /^(?:null|none|nil|nan|n\/?a|#n\/a|undefined|[+-]?inf(?:inity)?|-+|\\n|\?)$/i.test(text)

const noValue = (cell: string) => `If it means that there is no value, use --null ${shell(cell)}.`

const shown = (cell: string) => quoted(cell.length > 40 ? `${cell.slice(0, 40)}…` : cell)

import { quoted } from '../../lib/printable.ts'
import { CSV_COLUMNS } from '../../schemas/csv.ts'
import { findCaseFault, type Mapping, Unfit } from '../mapping.ts'
import { isOfData } from '../objects/mapping.ts'

/** The characters that programs write between cells. */
const DELIMITERS = [',', ';', '\t', '|']

/** The first line of a file that Excel writes or reads: it says what is between cells, and is not a row. */
export const readSeparator = (line: Buffer): string | undefined => /^"?sep=([^"\r\n])"?$/i.exec(line.toString())?.[1]

/** @param row the header as it is in the file. @throws Error with a sentence if it may contain rows */
export function checkHeaderLines(row: Buffer): void {
  const lines = row.toString('latin1').split(/\r\n|\r|\n/).length
  if (lines > 1)
    throw new Error(`its header spans ${lines} lines, so it may contain rows: a quote in its first line is not closed`)
}

/**
 * Plans how the rows become records. Refuses a header that may have been read wrongly: a wrong guess would store the whole file
 * wrongly, without an error.
 * @param exported whether it is a file of `sluice export`
 * @param plan plans with these names, and throws Unfit
 * @throws Unfit with everything that is wrong
 */
export function planHeader<Plan>(
  names: readonly string[],
  delimiter: string,
  mapping: Mapping,
  exported: boolean,
  plan: (names: readonly string[]) => Plan,
): Plan {
  const [only = ''] = names
  const other = DELIMITERS.find((one) => one !== delimiter && names.length === 1 && only.includes(one))
  const word = other === '\t' ? 'tab' : `'${other}'`
  const faults =
    other === undefined
      ? names.flatMap((name, at) => describeFault(name, at, names, mapping, exported))
      : [
          `its header is a single column, ${quoted(only)}. If the cells are separated by ${quoted(other)}, use --delimiter ${word}`,
        ]
  try {
    const planned = plan(other === undefined ? names : only.split(other))
    if (faults.length === 0) return planned
  } catch (error) {
    if (faults.length === 0) throw error
    if (error instanceof Unfit) faults.push(error.message)
    throw new Unfit(faults.join('; '), [...optionOf(other), ...(error instanceof Unfit ? error.options : [])])
  }
  throw new Unfit(faults.join('; '), optionOf(other))
}

const optionOf = (delimiter: string | undefined) =>
  delimiter === undefined ? [] : ['--delimiter', delimiter === '\t' ? 'tab' : delimiter]

function describeFault(
  name: string,
  at: number,
  names: readonly string[],
  mapping: Mapping,
  exported: boolean,
): string[] {
  const why = faultOf(name, names.indexOf(name) !== at, mapping) ?? (exported ? undefined : lossOf(name, mapping))
  return why === undefined ? [] : [`its column ${at + 1}${name === '' ? '' : `, ${quoted(name)},`} ${why}`]
}

/** What is wrong with the name of a column. A name that an option mentions is meant as it is. */
function faultOf(name: string, isRepeated: boolean, mapping: Mapping): string | undefined {
  if (name.trim() === '') return 'has no name in the header'
  if (isRepeated) return 'has the same name as an earlier one'
  if (/[\p{Cc}\ufeff\ufffd]/u.test(name)) return 'has a control character in its name'
  if (isMentioned(name, mapping)) return undefined
  if (name !== name.trim()) return 'has a name that begins or ends with a space. Remove the space'
  if (isData(name))
    return 'looks like data: the first line of a CSV file must be a header with the names of the columns'
  return findCaseFault(name, [], mapping)
}

/** Whether an option names this column. */
const isMentioned = (name: string, { map, json, numbers }: Mapping) =>
  json.has(name) || numbers?.has(name) || [...map.values()].includes(name)

/** What is wrong with a column that has its own meaning in an export, but would become a member of data here. */
function lossOf(name: string, mapping: Mapping): string | undefined {
  if (!IN_EXPORTS.includes(name) || mapping.set.has(name) || isMentioned(name, mapping)) return undefined
  return `is a column of exports, but this is not an export. Rename it, or use --map data=${name} if it is the whole data of a record`
}

/** Columns of an export that rarely occur elsewhere. */
const EXPORT_ONLY = ['extensions', 'data_base64', 'receivedAt', 'cursor']

/** What a column of this name has in an export would be lost in a member of data. */
const IN_EXPORTS = ['data', ...EXPORT_ONLY]

/** A time, or a number with a fraction. Whole numbers may be names, such as years. */
const isData = (name: string) => /^\d{4}-\d\d-\d\d[T ]\d\d:|^[+-]?\d+[.,]\d+$/.test(name)

/**
 * Whether this is a file of `sluice export`. Its columns may have another order, and some may be missing.
 * @throws Error with a sentence if it is one, but something else was added or asked for
 */
export function isExport(names: readonly string[], mapping: Mapping): boolean {
  const special = EXPORT_ONLY.filter((name) => names.includes(name)).length
  const added = names.filter((name) => !CSV_COLUMNS.includes(name))
  if (added.length > 0) {
    if (special < 2) return false
    throw new Error(`it has the columns of an export, and also ${added.map(quoted).join(', ')}. Remove these`)
  }
  const isPlain = !isOfData(mapping) && mapping.json.size + (mapping.numbers?.size ?? 0) === 0
  if (special > 0 && !isPlain)
    throw new Error(
      'it has the columns of an export, whose rows are records: omit --map, --json, --number, and --set of source or type',
    )
  return special > 0 || (isPlain && names.includes('data'))
}

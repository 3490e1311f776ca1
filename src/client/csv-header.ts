import { CSV_COLUMNS } from '../schemas/csv.ts'
import type { Mapping } from './csv-mapping.ts'

/** Attributes that are read from the column of the same name unless --map or --set say otherwise. */
export const ATTRIBUTES = ['source', 'type', 'id', 'time', 'subject', 'dataschema', 'datacontenttype']

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
 * Refuses a header that may have been read wrongly. A wrong guess would store the whole file wrongly, without an error.
 * @throws Error with a sentence
 */
export function checkHeader(names: readonly string[], delimiter: string, mapping: Mapping, exported: boolean): void {
  const [only = ''] = names
  const other = DELIMITERS.find((one) => one !== delimiter && names.length === 1 && only.includes(one))
  if (other !== undefined)
    throw new Error(
      `its header is a single column, ${shown(only)}. If the cells are separated by ${shown(other)}, use --delimiter ${other === '\t' ? "$'\\t'" : `'${other}'`}`,
    )
  for (const [at, name] of names.entries()) {
    const why = faultOf(name, names.indexOf(name) !== at, mapping) ?? (exported ? undefined : lossOf(name, mapping))
    if (why !== undefined) throw new Error(`its column ${at + 1}${name === '' ? '' : `, ${shown(name)},`} ${why}`)
  }
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
  const attribute = ATTRIBUTES.find((one) => one === name.toLowerCase() && one !== name)
  if (attribute === undefined || mapping.set.has(attribute) || mapping.map.has(attribute)) return undefined
  return `differs from ${attribute} only in case. Use --map ${attribute}=${name}, or --map ${attribute}= if it is part of the data`
}

/** Whether an option names this column. */
const isMentioned = (name: string, { map, json }: Mapping) => json.has(name) || [...map.values()].includes(name)

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

/** As in JSON, and the invisible byte order mark too. */
const shown = (text: string) => JSON.stringify(text).replaceAll('\ufeff', '\\ufeff')

/**
 * Whether this is a file of `sluice export`. Its columns may have another order, and some may be missing.
 * @throws Error with a sentence if it is one, but something else was added or asked for
 */
export function isExport(names: readonly string[], { map, set, json }: Mapping): boolean {
  const special = EXPORT_ONLY.filter((name) => names.includes(name)).length
  const added = names.filter((name) => !CSV_COLUMNS.includes(name))
  if (added.length > 0) {
    if (special < 2) return false
    throw new Error(`it has the columns of an export, and also ${added.map(shown).join(', ')}. Remove these`)
  }
  const isPlain = map.size + set.size + json.size === 0
  if (special > 0 && !isPlain)
    throw new Error('it has the columns of an export, which is loaded as it is: omit --map, --set and --json')
  return special > 0 || (isPlain && names.includes('data'))
}

import { quoted } from '../../lib/quoted.ts'
import { CSV_COLUMNS } from '../../schemas/csv.ts'
import { findCaseFault, type Mapping, type Problem, Unfit, unfit } from '../mapping.ts'
import { isOfData } from '../objects/mapping.ts'

/** The characters that programs write between cells. */
export const DELIMITERS = [',', ';', '\t', '|']

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
  const single = `its header is a single column, ${quoted(only)}. If the cells are separated by`
  const faults: Problem[] =
    other !== undefined
      ? [
          {
            text: `${single} ${quoted(other)}, use --delimiter ${delimiterWord(other)}`,
            options: delimiterOption(other),
          },
        ]
      : names.length === 1 && /\S {2,}\S/.test(only) && !isMentioned(only, mapping)
        ? [{ text: `${single} several spaces, ${BY_SPACES}` }]
        : names.flatMap((name, at) => describeFault(name, at, names, mapping, exported))
  try {
    const planned = plan(other === undefined ? names : only.split(other))
    if (faults.length === 0) return planned
  } catch (error) {
    if (faults.length === 0) throw error
    if (error instanceof Unfit) faults.push({ text: error.message, options: error.options })
  }
  throw unfit(faults)
}

/** A delimiter in a sentence, in which the quotes tell it from the punctuation. */
export const delimiterWord = (delimiter: string) => (delimiter === '\t' ? 'tab' : `'${delimiter}'`)

/** The option for a delimiter, as words of a command. */
export const delimiterOption = (delimiter: string) => ['--delimiter', delimiter === '\t' ? 'tab' : delimiter]

const BY_SPACES = "use: awk '{$1=$1; print}' FILE | sluice load - --format csv --delimiter ' ' …"

function describeFault(
  name: string,
  at: number,
  names: readonly string[],
  mapping: Mapping,
  exported: boolean,
): Problem[] {
  const title = `its column ${at + 1}${name === '' ? '' : `, ${quoted(name)},`}`
  const text = nameFault(names, at) ?? faultOf(name, names.indexOf(name) !== at, mapping)
  const fault = text === undefined ? findCaseFault(name, [], mapping) : { text }
  const loss = fault === undefined && !exported ? lossOf(name, mapping) : undefined
  const found = loss === undefined ? fault : { text: loss }
  return found === undefined ? [] : [{ ...found, text: `${title} ${found.text}` }]
}

/** What to do about a column without a name, by the programs that write such files. */
function nameFault(names: readonly string[], at: number): string | undefined {
  if (names[at]?.trim() !== '') return undefined
  const unnamed = names.filter((name) => name.trim() === '').length
  const isLast = names.slice(at).every((name) => name.trim() === '')
  const advice =
    unnamed > 1 && unnamed >= names.length / 2
      ? LATER_HEADER
      : at === 0
        ? '. If it is the index of pandas, write the file with to_csv(index=False), or name it with index_label'
        : isLast
          ? ". If each line ends with a delimiter, remove it: sed 's/[,;]\\r*$//' FILE | sluice load - --format csv …"
          : ''
  return `has no name in the header${advice}`
}

export const LATER_HEADER =
  '. If the header is on a later line, such as the third one: tail -n +3 FILE | sluice load - --format csv …'

/** What is wrong with the name of a column. A name that an option mentions is meant as it is. */
function faultOf(name: string, isRepeated: boolean, mapping: Mapping): string | undefined {
  if (isRepeated) return 'has the same name as an earlier one'
  if (INVISIBLE.test(name)) return 'has a character in its name that cannot be seen. Remove it'
  if (isMentioned(name, mapping)) return undefined
  if (name !== name.trim()) return 'has a name that begins or ends with a space. Remove the space'
  if (isData(name))
    return 'looks like data: the first line of a CSV file must be a header with the names of the columns'
  return undefined
}

/** A joiner (U+200C, U+200D) within a name is part of a word, or of an emoji. */
const INVISIBLE = /[\p{Cc}\ufffd]|(?![\u200c\u200d])\p{Cf}|^[\u200c\u200d]|[\u200c\u200d]$/u

/** Whether an option names this column. */
export const isMentioned = (name: string, { map, json, numbers }: Mapping) =>
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
  const columns: readonly string[] = CSV_COLUMNS
  const added = names.filter((name) => !columns.includes(name))
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

import { printable, quoted } from '../lib/printable.ts'
import type { TimeReader } from './times.ts'

/** How the columns of a CSV file, or the members of objects, become records. Both are given by name. */
export interface Mapping {
  /** Attribute → column or member. Empty: the attribute is not read from the file. */
  map: ReadonlyMap<string, string>
  /** Attribute → the value in all records. */
  set: ReadonlyMap<string, string>
  /** CSV: columns whose cells are JSON, or numbers. Other cells are text. */
  json: ReadonlySet<string>
  numbers?: ReadonlySet<string>
  /** CSV: the decimal separator of numbers. */
  decimal?: Decimal
  /** CSV: cells with one of these texts have no value. */
  nulls?: ReadonlySet<string>
  /** Converts the attribute time. Without it, the text is sent as it is. */
  readTime?: TimeReader | undefined
}

/** A cell of CSV; null: empty, without quotes. */
export type Cell = string | null

export type Decimal = '.' | ','

/** Attributes that are read from the column or member of the same name unless --map or --set say otherwise. */
export const ATTRIBUTES = ['source', 'type', 'id', 'time', 'subject', 'dataschema', 'datacontenttype']

/** Not attributes, but they can be mapped: then the column is the whole data, and not a member of it. */
export const PAYLOADS = ['data', 'data_base64']

/** Attribute → its column, or its member as a name or a JSON Pointer. */
export function attributesOf({ map, set }: Mapping): Map<string, string> {
  const taken = new Set(map.values())
  const unmapped = ATTRIBUTES.filter((name) => !map.has(name) && !set.has(name) && !taken.has(name))
  // In a fixed order: the Idempotency-Key, and so the ids of records without an id, depends on the text of the record.
  return new Map([...unmapped.map((name) => [name, name] as const), ...[...map].filter(([, from]) => from !== '')])
}

export const member = (name: string, value: string) => `${JSON.stringify(name)}:${value}`

/** The attributes that all records have, as members. */
export const constantsOf = ({ set }: Mapping) => [...set].map(([name, value]) => member(name, JSON.stringify(value)))

/** A file does not fit the options. */
export class Unfit extends Error {
  /** The options that would help, as words of a command. */
  readonly options: readonly string[]

  constructor(message: string, options: readonly string[]) {
    super(message)
    this.options = options
  }
}

/** At most this many names are shown. */
const SHOWN = 40

/**
 * @param problems parts of a sentence
 * @param missing the attributes that every record needs and that the file does not have
 * @param part what its names are
 */
export function makeUnfit(
  problems: readonly string[],
  missing: readonly string[],
  part: 'column' | 'member',
  names: readonly string[],
): Unfit {
  const [first] = missing
  const need = `it has no ${missing.join(' and no ')}, which every record needs (--set ${first}=TEXT, or --map ${first}=${part.toUpperCase()})`
  const sentence = [...problems, ...(first === undefined ? [] : [need])].join('; ')
  const more = names.length > SHOWN ? ` and ${names.length - SHOWN} more` : ''
  const list = names.length === 0 ? '' : `. Its ${part}s are ${names.slice(0, SHOWN).map(quoted).join(', ')}${more}`
  return new Unfit(
    `${sentence}${list}`,
    missing.flatMap((name) => ['--set', `${name}=TEXT`]),
  )
}

/**
 * What is wrong with a column or member whose name is almost that of an attribute: it would become data, which may not be meant.
 * @param others further names; if one of them is the attribute, this one is data
 */
export function findCaseFault(name: string, others: readonly string[], { map, set }: Mapping): string | undefined {
  const attribute = ATTRIBUTES.find((one) => one === name.toLowerCase() && one !== name)
  if (attribute === undefined || set.has(attribute) || map.has(attribute) || others.includes(attribute))
    return undefined
  if ([...map.values()].includes(name)) return undefined
  return `differs from ${attribute} only in case. Use --map ${shell(`${attribute}=${name}`)}, or --map ${attribute}= if it is part of the data`
}

/** A word of a shell command. */
export const shell = (text: string): string =>
  /^[\w./:,=+-]+$/.test(text) ? text : `'${printable(text).replaceAll("'", `'\\''`)}'`

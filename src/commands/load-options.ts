import { type FileFormatName, FORMAT_NAMES } from '../client/input.ts'
import { ATTRIBUTES, type Decimal, type Mapping, PAYLOADS, shell } from '../client/mapping.ts'
import { TIME_FORMATS, type TimeReader, timeReader } from '../client/times.ts'
import { parseTime } from '../lib/rfc3339.ts'

/** The options of `sluice load` as they are written. */
export interface RawOptions {
  url: string
  format?: string
  connections: string
  rejected?: string
  map?: string[]
  set?: string[]
  json?: string[]
  number?: string[]
  null?: string[]
  decimal?: string
  delimiter?: string
  timeFormat?: string
  timeZone?: string
}

interface LoadOptions {
  format: FileFormatName | undefined
  connections: number
  delimiter: string | undefined
  mapping: Mapping
  /** The options that only CSV has, as written. */
  onlyCsv: string[]
}

/**
 * Reads the options.
 * @param problems gets a sentence for each option that is wrong, so that the user can correct all of them at once
 */
export async function readOptions(raw: RawOptions, problems: string[]): Promise<LoadOptions> {
  const { json = [], number = [], null: nulls = [] } = raw
  const map = readPairs('--map', raw.map ?? [], problems)
  const set = readPairs('--set', raw.set ?? [], problems)
  for (const name of map.keys()) if (set.has(name)) problems.push(`${name} is both mapped and set`)
  for (const [name, value] of set) {
    if (value === '') problems.push(`--set ${name}= has no text after it`)
    const time = name === 'time' ? parseTime(value) : undefined
    if (time !== undefined && 'problem' in time) problems.push(`--set time=${value}: it ${time.problem}`)
  }
  for (const name of number) if (json.includes(name)) problems.push(`The column ${name} is in --json and in --number`)
  if (raw.decimal !== undefined && number.length === 0)
    problems.push(`--decimal is for columns of numbers: name them with --number COLUMN`)
  const onlyCsv = [
    ...(json.length > 0 ? ['--json'] : []),
    ...(number.length > 0 ? ['--number'] : []),
    ...(nulls.length > 0 ? ['--null'] : []),
    ...(raw.delimiter !== undefined ? ['--delimiter'] : []),
  ]
  return {
    format: oneOf('--format', FORMAT_NAMES, raw.format, problems),
    connections: readConnections(raw.connections, problems),
    delimiter: readDelimiter(raw.delimiter, problems),
    onlyCsv,
    mapping: {
      map,
      set,
      json: new Set(json),
      numbers: new Set(number),
      nulls: new Set(nulls),
      decimal: oneOf<Decimal>('--decimal', ['.', ','], raw.decimal, problems) ?? '.',
      readTime: await readTimeFormat(raw, problems),
    },
  }
}

function oneOf<T extends string>(
  option: string,
  values: readonly T[],
  text: string | undefined,
  problems: string[],
): T | undefined {
  const found = values.find((value) => value === text)
  if (found === undefined && text !== undefined)
    problems.push(`${option} ${shell(text)}: it must be ${values.slice(0, -1).join(', ')} or ${values.at(-1)}`)
  return found
}

function readConnections(text: string, problems: string[]): number {
  const value = Number(text)
  // The server reserves memory for each connection, and refuses too many.
  if (!Number.isInteger(value) || value < 1 || value > 16)
    problems.push(`--connections ${shell(text)}: it must be from 1 to 16`)
  return value
}

/** Reads `attribute=text` of --map and --set. */
function readPairs(option: string, texts: readonly string[], problems: string[]): Map<string, string> {
  const pairs = new Map<string, string>()
  for (const text of texts) {
    const at = text.indexOf('=')
    const name = text.slice(0, Math.max(at, 0))
    // CloudEvents 1.0.2, section 3.1: the name of an extension attribute.
    if (!PAYLOADS.includes(name) && !/^[a-z0-9]+$/.test(name)) {
      const attributes = [...ATTRIBUTES, ...PAYLOADS].join(', ')
      problems.push(
        `${option} ${shell(text)}: it must be an attribute, = and a ${option === '--map' ? 'column or member' : 'text'}. Attributes are ${attributes}, and other names of lower-case letters and digits`,
      )
    } else if (option === '--set' && PAYLOADS.includes(name)) {
      problems.push(`--set ${name}=: it is not an attribute. Use --map ${name}= with a column or member`)
    } else if (pairs.has(name)) problems.push(`${option} ${name}= is given twice`)
    else pairs.set(name, text.slice(at + 1))
  }
  return pairs
}

/** A shell passes \t as it is. */
const TABS = ['tab', '\\t']

function readDelimiter(text: string | undefined, problems: string[]): string | undefined {
  if (text !== undefined && TABS.includes(text)) return '\t'
  if (text === '' || /["\r\n]/.test(text ?? ''))
    problems.push(
      `--delimiter ${shell(text ?? '')}: it must be a character other than a quote or a line break, or the word tab`,
    )
  return text
}

async function readTimeFormat(
  { timeFormat, timeZone }: RawOptions,
  problems: string[],
): Promise<TimeReader | undefined> {
  if (timeFormat === undefined) {
    if (timeZone !== undefined)
      problems.push(`--time-zone needs --time-format, which is ${TIME_FORMATS.join(', ')} or a pattern`)
    return undefined
  }
  try {
    // Loaded only if needed: it has the rules of calendars.
    const zone = timeZone === undefined ? undefined : (await import('../client/times/zone.ts')).timeZone(timeZone)
    return timeReader(timeFormat, zone)
  } catch (error) {
    problems.push((error as Error).message)
    return undefined
  }
}

import { shell } from '../mapping.ts'

/** A time as it was written, in the form of RFC 3339. */
export interface Clock {
  local: string
  /** Its offset from UTC; undefined: it has none. */
  zone: string | undefined
  /** Whether it has no time of day. */
  isDate: boolean
}

const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec']

/** The tokens of a pattern, as in Day.js and Moment. Longer ones come first. */
const TOKENS: Record<string, string> = {
  YYYY: String.raw`(?<year>\d{4})`,
  MMM: `(?<name>${MONTHS.join('|')})`,
  MM: String.raw`(?<month>\d\d)`,
  M: String.raw`(?<month>\d\d?)`,
  DD: String.raw`(?<day>\d\d)`,
  D: String.raw`(?<day>\d\d?)`,
  HH: String.raw`(?<hour>\d\d)`,
  H: String.raw`(?<hour>\d\d?)`,
  hh: String.raw`(?<hour>\d\d)`,
  h: String.raw`(?<hour>\d\d?)`,
  mm: String.raw`(?<minute>\d\d)`,
  ss: String.raw`(?<second>\d\d)`,
  S: String.raw`(?<fraction>\d+)`,
  A: '(?<half>[AP]M)',
  Z: String.raw`(?<zone>Z|[+-]\d\d:?\d\d)`,
}

export const TOKEN_HELP =
  'YYYY, MM or M, DD or D, MMM (Jan), HH or H, hh or h with A (AM), mm, ss, S (the fraction), Z (the offset)'

/**
 * Compiles a pattern such as `DD.MM.YYYY HH:mm:ss`.
 * @returns a function that reads a time; undefined: it does not match
 * @throws Error with a sentence if the pattern is invalid
 */
export function compilePattern(pattern: string): (text: string) => Clock | undefined {
  const parts = pattern.match(/YYYY|MMM|MM|M|DD|D|HH|H|hh|h|mm|ss|S+|A|Z|./gsu) ?? []
  const names = parts.map((part) => (/^S+$/.test(part) ? 'S' : part))
  const unknown = names.filter((name) => TOKENS[name] === undefined && /[\p{L}%]/u.test(name) && name !== 'T')
  const kinds = names.map((name) => TOKENS[name]?.match(/<(\w+)>/)?.[1]).filter((kind) => kind !== undefined)
  const has = (kind: string) => kinds.includes(kind)
  const fault =
    unknown.length > 0
      ? `${unknown.join('')} is not a token`
      : !has('year') || !has('day') || !(has('month') || has('name'))
        ? 'it needs a year, a month and a day'
        : new Set(kinds).size < kinds.length
          ? 'a token occurs twice'
          : names.some((name) => name.startsWith('h')) !== has('half')
            ? 'hh and h need A, and A needs one of them'
            : (has('minute') && !has('hour')) ||
                (has('second') && !has('minute')) ||
                (has('fraction') && !has('second'))
              ? 'a part of the time of day is missing'
              : undefined
  if (fault !== undefined) throw new Error(`--time-format ${shell(pattern)}: ${fault}. The tokens are ${TOKEN_HELP}`)
  const expression = new RegExp(`^${names.map((name) => TOKENS[name] ?? escaped(name)).join('')}$`, 'i')
  return (text) => {
    const groups = expression.exec(text)?.groups
    return groups === undefined ? undefined : toClock(groups, has('hour'))
  }
}

const escaped = (text: string) => text.replaceAll(/[^\p{L}\p{N}]/gu, '\\$&')

function toClock(groups: Record<string, string | undefined>, hasHour: boolean): Clock | undefined {
  const { year, month, name, day, hour = '0', minute = '00', second = '00', fraction, half, zone } = groups
  const twoDigits = (text: string | number = '') => String(text).padStart(2, '0')
  // 12 AM is midnight, 12 PM is noon.
  if (half !== undefined && (Number(hour) < 1 || Number(hour) > 12)) return undefined
  const hours = half === undefined ? hour : (Number(hour) % 12) + (half.toUpperCase() === 'PM' ? 12 : 0)
  const months = name === undefined ? month : MONTHS.indexOf(name.toLowerCase()) + 1
  const local = `${year}-${twoDigits(months)}-${twoDigits(day)}T${twoDigits(hours)}:${minute}:${second}${fraction === undefined ? '' : `.${fraction}`}`
  return { local, zone: zone?.replace(/^z$/, 'Z').replace(/(\d\d)(\d\d)$/, '$1:$2'), isDate: !hasHour }
}

/** The option for times in common spellings, as a sentence; undefined if it is not one of them. */
export function suggestPattern(text: string): string | undefined {
  if (/^\d\d\/[A-Z]{3}\/\d{4}(?::\d\d){3} [+-]\d{4}$/i.test(text)) return "Use --time-format 'DD/MMM/YYYY:HH:mm:ss Z'."
  if (/^(?:19|20)\d{6}$/.test(text)) return 'Use --time-format YYYYMMDD if it is a date.'
  const parts = /^(\d{1,2}|\d{4})([./-])(\d\d?)\2(\d{1,2}|\d{4})(?:(,? )(\d\d?)(:\d\d.*))?$/.exec(text)
  if (parts === null) return undefined
  const [, first = '', sign, second = '', last = '', gap, hour = '', minutes = ''] = parts
  const time = gap === undefined ? '' : `${gap}${timePattern(hour, minutes)}`
  const zone = gap === undefined || time.endsWith('Z') ? '' : ' --time-zone Europe/Berlin (or where its clock is; UTC)'
  const option = (...tokens: string[]) => `--time-format '${tokens.join(sign)}${time}'${zone}`
  const [day, month] = [first, second, last].some((part) => part.length === 1) ? ['D', 'M'] : ['DD', 'MM']
  if (first.length === 4) return `Use ${option('YYYY', month, day)}.`
  if (last.length !== 4) return undefined
  const [dayFirst, monthFirst] = [option(day, month, 'YYYY'), option(month, day, 'YYYY')]
  if (sign === '.' || Number(first) > 12) return `Use ${dayFirst}.`
  if (Number(second) > 12) return `Use ${monthFirst}.`
  return `Use ${dayFirst} if the day is first, or ${monthFirst} if the month is.`
}

/** @param minutes the text after the hour */
function timePattern(hour: string, minutes: string): string {
  const token = /[AP]M/i.test(minutes) ? 'h' : 'H'
  const rest = minutes
    .replace(/^:\d\d/, ':mm')
    .replace(/^:mm:\d\d/, ':mm:ss')
    .replace(/\.\d+/, '.S')
    .replace(/[AP]M/i, 'A')
    .replace(/Z$|[+-]\d\d:?\d\d$/, 'Z')
  return `${token.repeat(hour.length)}${rest}`
}

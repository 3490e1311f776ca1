import { EPOCH_UNITS } from '../../lib/epoch-time.ts'
import { quoted } from '../../lib/quoted.ts'
import { shell } from '../mapping.ts'
import { translateFormat } from './pattern-names.ts'

/** The formats that have a name. */
export const TIME_NAMES = ['iso', ...Object.keys(EPOCH_UNITS)]

/** A time as it was written, in the form of RFC 3339. */
export interface Clock {
  local: string
  /** Its offset from UTC; undefined: it has none. */
  zone: string | undefined
  /** Whether it has no time of day. */
  isDate: boolean
}

const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec']

const MONTH_NAMES = [
  'january', 'february', 'march', 'april', 'may', 'june', 'july', 'august', 'september', 'october', 'november', 'december',
] // biome-ignore format: a list

/** The tokens of a pattern, as in Day.js and Moment. Longer ones come first. */
const TOKENS: Record<string, string> = {
  YYYY: String.raw`(?<year>\d{4})`,
  YY: String.raw`(?<year>\d\d)`,
  MMMM: `(?<name>${MONTH_NAMES.join('|')})`,
  MMM: `(?<name>${MONTHS.join('|')})`,
  MM: String.raw`(?<month>\d\d)`,
  M: String.raw`(?<month>\d\d?)`,
  DD: String.raw`(?<day>\d\d)`,
  D: String.raw`(?<day>\d\d?)`,
  ddd: '(?:mon|tue|wed|thu|fri|sat|sun)',
  HH: String.raw`(?<hour>\d\d)`,
  H: String.raw`(?<hour>\d\d?)`,
  hh: String.raw`(?<hour>\d\d)`,
  h: String.raw`(?<hour>\d\d?)`,
  mm: String.raw`(?<minute>\d\d)`,
  ss: String.raw`(?<second>\d\d)`,
  S: String.raw`(?<fraction>\d+)`,
  A: String.raw`(?<half>[AP]\.?M\.?)`,
  Z: String.raw`(?<zone>Z|UTC|GMT|[+-]\d\d:?\d\d)`,
}

export const TOKEN_HELP = [
  'YYYY or YY (69 is 1969, 68 is 2068), MM or M, MMM (Jan) or MMMM (January), DD or D,',
  'ddd (Mon), HH or H, hh or h with A (AM), mm, ss, S (the fraction), Z (the offset),',
  'and text in brackets, such as [at]',
]

/**
 * Compiles a pattern such as `DD.MM.YYYY HH:mm:ss`.
 * @returns a function that reads a time; undefined: it does not match
 * @throws Error with a sentence if the pattern is invalid
 */
export function compilePattern(pattern: string): (text: string) => Clock | undefined {
  const tokens = readTokens(pattern)
  const fault = faultOf(tokens, pattern)
  if (fault !== undefined) throw new Error(`--time-format ${shell(pattern)}: ${fault}. ${suggestFor(pattern)}`)
  const expression = new RegExp(`^${tokens.map((token) => TOKENS[token] ?? escaped(textOf(token))).join('')}$`, 'i')
  return (text) => {
    const groups = expression.exec(text)?.groups
    return groups === undefined ? undefined : toClock(groups, kindsOf(tokens).includes('hour'))
  }
}

/** What was probably meant by a pattern that is invalid, as a sentence. */
function suggestFor(pattern: string): string {
  const better = translateFormat(pattern)
  const isFormat = TIME_NAMES.includes(better) || faultOf(readTokens(better), better) === undefined
  return isFormat
    ? `Use --time-format ${shell(better)} if that is meant`
    : `It must be ${TIME_NAMES.join(', ')}, or a pattern of a time with ${TOKEN_HELP.join(' ')}`
}

function readTokens(pattern: string): string[] {
  const parts = pattern.match(/\[[^\]]*\]|YYYY|YY|MMMM|MMM|MM|M|ddd|DD|D|HH|H|hh|h|mm|ss|S+|A|Z|./gsu) ?? []
  return parts.map((part) => (/^S+$/.test(part) ? 'S' : part))
}

/** Text in brackets is no token, and means itself. */
const textOf = (token: string) => (token.length > 1 ? token.slice(1, -1) : token)

/** What a token stands for, such as day. */
const kindOf = (token: string) => /<(\w+)>/.exec(TOKENS[token] ?? '')?.[1]?.replace('name', 'month')

const kindsOf = (tokens: readonly string[]) => tokens.map(kindOf).filter((kind) => kind !== undefined)

/** What is wrong with a pattern, as a part of a sentence. */
function faultOf(tokens: readonly string[], pattern: string): string | undefined {
  const kinds = kindsOf(tokens)
  const has = (kind: string) => kinds.includes(kind)
  const isUnknown = (token: string) => TOKENS[token] === undefined && /^[\p{L}%]$/u.test(token) && token !== 'T'
  if (tokens.some(isUnknown)) {
    const words = (pattern.match(/[\p{L}%]+/gu) ?? []).filter((word) => readTokens(word).some(isUnknown))
    return `${words.map(quoted).join(' and ')} in it ${words.length === 1 ? 'is not a token' : 'are not tokens'}`
  }
  if (!has('year') || !has('day') || !has('month')) return 'it needs a year, a month and a day'
  const twice = kinds.find((kind, at) => kinds.indexOf(kind) !== at)
  if (twice !== undefined) {
    const same = tokens.filter((token) => kindOf(token) === twice)
    return `it has the ${twice} ${same.length} times (${same.join(', ')})`
  }
  if (tokens.some((token) => token.startsWith('h')) !== has('half')) return 'hh and h need A, and A needs one of them'
  const isMissing =
    (has('minute') && !has('hour')) || (has('second') && !has('minute')) || (has('fraction') && !has('second'))
  return isMissing ? 'a part of the time of day is missing' : undefined
}

const escaped = (text: string) => text.replaceAll(/[^\p{L}\p{N}]/gu, '\\$&')

function toClock(groups: Record<string, string | undefined>, hasHour: boolean): Clock | undefined {
  const { year, month, name, day, hour = '0', minute = '00', second = '00', fraction, half, zone } = groups
  const twoDigits = (text: string | number = '') => String(text).padStart(2, '0')
  // 12 AM is midnight, 12 PM is noon.
  if (half !== undefined && (Number(hour) < 1 || Number(hour) > 12)) return undefined
  const hours = half === undefined ? hour : (Number(hour) % 12) + (/^p/i.test(half) ? 12 : 0)
  const months = name === undefined ? month : MONTHS.indexOf(name.slice(0, 3).toLowerCase()) + 1
  // POSIX, strptime.
  const years = year?.length === 2 ? `${Number(year) < 69 ? 20 : 19}${year}` : year
  const local = `${years}-${twoDigits(months)}-${twoDigits(day)}T${twoDigits(hours)}:${minute}:${second}${fraction === undefined ? '' : `.${fraction}`}`
  const offset = zone?.replace(/^(?:z|utc|gmt)$/i, 'Z').replace(/(\d\d)(\d\d)$/, '$1:$2')
  return { local, zone: offset, isDate: !hasHour }
}

export const DATE = 'it is a date'

export interface LikelyPattern {
  pattern: string
  /** What is assumed, as a part of a sentence. */
  assumes?: string
}

/** Patterns that may fit a time in a common spelling, with what each of them assumes. */
export function likelyPatterns(text: string): LikelyPattern[] {
  if (/^(?:19|20)\d{6}(?:\d{6})?$/.test(text))
    return [{ pattern: text.length === 8 ? 'YYYYMMDD' : 'YYYYMMDDHHmmss', assumes: DATE }]
  const [, weekday = '', date = '', between = '', time = ''] =
    /^([A-Za-z]{3},? )?(.*?\d)(?:((?:,| at)? |T|:)(\d\d?:\d\d.*))?$/.exec(text) ?? []
  const pattern = (days: string) =>
    `${weekday.replace(/[A-Za-z]+/, 'ddd')}${days}${between.replace(/at/, '[at]')}${timePattern(time)}`
  return datePatterns(date).map(({ pattern: days, ...rest }) => ({ pattern: pattern(days), ...rest }))
}

function datePatterns(date: string): LikelyPattern[] {
  const named = /^(?:\d\d?([ -/])([A-Za-z]+)\1\d{4}|([A-Za-z]+) \d\d?(,?) \d{4})$/.exec(date)
  if (named !== null) {
    const [, sign, later = '', first = later, comma] = named
    const month = first.length === 3 ? 'MMM' : 'MMMM'
    return [{ pattern: sign === undefined ? `${month} D${comma} YYYY` : ['D', month, 'YYYY'].join(sign) }]
  }
  const [, first = '', sign = '', last = ''] = /^(\d{1,2}|\d{4})([./-])\d\d?\2(\d{1,2}|\d{4})$/.exec(date) ?? []
  if (first.length === 4) return [{ pattern: ['YYYY', 'M', 'D'].join(sign) }]
  if (last.length !== 2 && last.length !== 4) return []
  const year = last.length === 4 ? 'YYYY' : 'YY'
  const dayFirst = { pattern: ['D', 'M', year].join(sign), assumes: 'the day is first' }
  return [dayFirst, { pattern: ['M', 'D', year].join(sign), assumes: 'the month is' }]
}

/** @param time begins with the hour */
function timePattern(time: string): string {
  return time
    .replace(/^\d\d?:\d\d/, /\d *[AP]\.?M\b/i.test(time) ? 'h:mm' : 'H:mm')
    .replace(/^(.:mm):\d\d/, '$1:ss')
    .replace(/\.\d+/, '.S')
    .replace(/[AP]\.?M\b\.?/i, 'A')
    .replace(/(?<!\w)(?:Z|UTC|GMT)$|[+-]\d\d:?\d\d$/, 'Z')
    .replace(/(?<=[ \d])(?!A\b|Z$)[A-Z][\w/ ]*$/i, '[$&]')
}

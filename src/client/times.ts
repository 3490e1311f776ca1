import { quoted } from '../lib/printable.ts'
import { parseTime } from '../lib/rfc3339.ts'
import { type Clock, compilePattern, suggestPattern } from './times/patterns.ts'

/** Converts the text of a time to RFC 3339, or says why it cannot. */
export type TimeReader = (text: string) => { time: string } | { reason: string }

/** Converts a local time to UTC; undefined: it does not exist in the time zone, or exists twice. */
export type ToUtc = (local: string, isDate: boolean) => string | undefined

/** How many digits of a number are after the decimal point of its seconds. */
const UNITS: Record<string, number> = { seconds: 0, milliseconds: 3, microseconds: 6, nanoseconds: 9 }

export const TIME_FORMATS = ['iso', ...Object.keys(UNITS)]

/**
 * @param format a name of TIME_FORMATS, or a pattern such as DD.MM.YYYY HH:mm
 * @param toUtc for times without an offset from UTC. Without it, they are rejected, but a date alone is midnight UTC
 * @throws Error with a sentence if the pattern is invalid
 */
export function timeReader(format: string, toUtc: ToUtc | undefined): TimeReader {
  const unit = UNITS[format]
  const read = unit !== undefined ? readEpoch(unit) : format === 'iso' ? readIso : compilePattern(format)
  return (text) => {
    const clock = read(text.trim())
    if (clock === undefined)
      return { reason: `${quoted(text)} does not fit --time-format ${format}. ${suggestTimeFormat(text)}` }
    const { local, zone, isDate } = clock
    const checked = parseTime(`${local}${zone ?? 'Z'}`)
    if ('problem' in checked) return { reason: `${quoted(text)} ${checked.problem}.` }
    if (zone !== undefined || (toUtc === undefined && isDate)) return { time: `${local}${zone ?? 'Z'}` }
    if (toUtc === undefined) return { reason: `${quoted(text)} ${NO_OFFSET}` }
    const time = toUtc(local, isDate)
    return time === undefined ? { reason: `${quoted(text)} ${NOT_ONCE}` } : { time }
  }
}

const NO_OFFSET = 'has no offset from UTC. Say where its clock is: --time-zone Europe/Berlin, or --time-zone UTC.'
const NOT_ONCE =
  'does not exist in this time zone, or exists twice, because its clocks were changed then. Add the offset from UTC.'

/** RFC 3339, ISO 8601 with hyphens and colons or without, and how PostgreSQL, Python, Go, Git and others write it. */
const ISO =
  /^(\d{4})(-?)(\d\d)\2(\d\d)(?:(?:[Tt]| +)(\d\d)(:?)(\d\d)(?:\6(\d\d)(?:[.,](\d+))?)?\s*(?:([Zz]|UTC|GMT)|([+-]\d\d)(?::?(\d\d))?(?: UTC| GMT)?)?)?$/

function readIso(text: string): Clock | undefined {
  const [all, year, , month, day, hour, , minute, second, fraction, utc, offset, offsetMinute] = ISO.exec(text) ?? []
  // Eight digits may be any other number.
  if (all === undefined || /^\d+$/.test(all)) return undefined
  const local = `${year}-${month}-${day}T${hour ?? '00'}:${minute ?? '00'}:${second ?? '00'}${fraction === undefined ? '' : `.${fraction}`}`
  const zone = utc !== undefined ? 'Z' : offset === undefined ? undefined : `${offset}:${offsetMinute ?? '00'}`
  return { local, zone, isDate: hour === undefined }
}

/** Works on the digits: a double has too few of them for microseconds. */
function readEpoch(unit: number): (text: string) => Clock | undefined {
  return (text) => {
    const [, sign, whole, fraction = '', exponent = '0'] =
      /^([+-]?)(\d{1,30})(?:\.(\d{1,30}))?(?:[eE]([+-]?\d{1,2}))?$/.exec(text) ?? []
    if (whole === undefined) return undefined
    const scale = unit + fraction.length - Number(exponent)
    const digits = BigInt(`${sign === '-' ? '-' : ''}${whole}${fraction}`) * 10n ** BigInt(Math.max(-scale, 0))
    const second = 10n ** BigInt(Math.max(scale, 0))
    const part = ((digits % second) + second) % second
    const seconds = Number((digits - part) / second)
    // Later or earlier, the year does not have four digits.
    if (seconds > 253_402_300_799 || seconds < -62_167_219_200) return undefined
    const decimals = scale > 0 ? String(part).padStart(scale, '0').replace(/0+$/, '') : ''
    const local = `${new Date(seconds * 1000).toISOString().slice(0, 19)}${decimals === '' ? '' : `.${decimals}`}`
    return { local, zone: 'Z', isDate: false }
  }
}

/** The unit of a number with so many digits before its point, for the years 1973 to 2286. */
const UNIT_OF_DIGITS: Record<number, string> = {
  9: 'seconds',
  10: 'seconds',
  12: 'milliseconds',
  13: 'milliseconds',
  15: 'microseconds',
  16: 'microseconds',
  18: 'nanoseconds',
  19: 'nanoseconds',
}

/** The option that would fit a time that was not accepted, as a sentence. */
export function suggestTimeFormat(text: string): string {
  const trimmed = text.trim()
  const digits = /^-?(\d+)(?:\.\d+)?$/.exec(trimmed)?.[1]
  const unit = UNIT_OF_DIGITS[digits?.length ?? 0]
  if (unit !== undefined) return `Use --time-format ${unit}.`
  const iso = readIso(trimmed)
  if (iso?.isDate || iso?.zone !== undefined) return 'Use --time-format iso.'
  if (iso !== undefined) return 'Use --time-format iso --time-zone Europe/Berlin (or where its clock is, or UTC).'
  return (
    suggestPattern(trimmed) ??
    `Use --time-format ${TIME_FORMATS.join(', ')}, or a pattern such as 'DD.MM.YYYY HH:mm:ss'.`
  )
}

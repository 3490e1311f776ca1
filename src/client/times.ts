import { EPOCH_UNITS, type EpochUnit, epochUnit, readEpoch } from '../lib/epoch-time.ts'
import { quoted } from '../lib/quoted.ts'
import { parseTime } from '../lib/rfc3339.ts'
import { shell } from './mapping.ts'
import { type Clock, compilePattern, DATE, type LikelyPattern, likelyPatterns } from './times/patterns.ts'

/** Converts the text of a time to RFC 3339, or says why it cannot. */
export type TimeReader = (text: string) => { time: string } | { reason: string }

/** Converts a local time to UTC; undefined: it does not exist in the time zone, or exists twice. */
export type ToUtc = (local: string, isDate: boolean) => string | undefined

/**
 * @param format a name of TIME_NAMES, or a pattern such as DD.MM.YYYY HH:mm
 * @param toUtc for times without an offset from UTC. Without it, they are rejected, but a date alone is midnight UTC
 * @throws Error with a sentence if the pattern is invalid
 */
export function timeReader(format: string, toUtc: ToUtc | undefined): TimeReader {
  const read = readerOf(format)
  return (text) => {
    const trimmed = text.trim()
    const clock = read(trimmed)
    if (clock === undefined)
      return { reason: `${quoted(text)} does not fit --time-format ${format}. ${suggestTimeFormat(text)}` }
    const better = isEpochUnit(format) ? findBetter(trimmed, format) : undefined
    if (better !== undefined)
      return {
        reason: `${quoted(text)} as ${format} is ${clock.local}Z, but as ${better.format} it is ${better.time}. Use --time-format ${better.format}. If it is right, write ${trimmed}.0.`,
      }
    const { local, zone, isDate } = clock
    const checked = parseTime(`${local}${zone ?? 'Z'}`)
    if ('problem' in checked) {
      const suggestion = suggestTimeFormat(text)
      return { reason: `${quoted(text)} ${checked.problem}.${suggestion.startsWith('Use') ? ` ${suggestion}` : ''}` }
    }
    if (zone !== undefined || (toUtc === undefined && isDate)) return { time: `${local}${zone ?? 'Z'}` }
    if (toUtc === undefined) return { reason: `${quoted(text)} ${NO_OFFSET}` }
    const time = toUtc(local, isDate)
    return time === undefined ? { reason: `${quoted(text)} ${NOT_ONCE}` } : { time }
  }
}

/** How a whole number is a time of this age, if it is none in this unit: in another unit, or as the digits of a date. */
function findBetter(text: string, unit: EpochUnit): { format: string; time: string } | undefined {
  if (!/^-?\d+$/.test(text)) return undefined
  const likely = epochUnit(text)
  if (likely !== undefined) return likely === unit ? undefined : { format: likely, time: readEpoch(text, likely) ?? '' }
  for (const { pattern } of likelyPatterns(text)) {
    const clock = tryRead(pattern, text)
    if (clock !== undefined && 'utc' in parseTime(`${clock.local}Z`)) return { format: pattern, time: clock.local }
  }
  return undefined
}

const NO_OFFSET = 'has no offset from UTC. Say where its clock is: --time-zone Europe/Berlin, or --time-zone UTC.'
const NOT_ONCE =
  'does not exist in this time zone, or exists twice, because its clocks were changed then. Add the offset from UTC.'

/** RFC 3339, ISO 8601 with hyphens and colons or without, and how PostgreSQL, Python, Go, Git and others write it: the name of a zone may follow the offset. */
const ISO =
  /^(\d{4})(-?)(\d\d)\2(\d\d)(?:(?:[Tt]| +)(\d\d)(:?)(\d\d)(?:\6(\d\d)(?:[.,](\d+))?)?\s*(?:([Zz]|UTC|GMT)|([+-]\d\d)(?::?(\d\d))?(?: (?:[A-Z]{1,5}|[+-]\d{2,4}))?(?: m=[+-][\d.]+)?)?)?$/

function readIso(text: string): Clock | undefined {
  const [all, year, , month, day, hour, , minute, second, fraction, utc, offset, offsetMinute] = ISO.exec(text) ?? []
  // Eight digits may be any other number.
  if (all === undefined || /^\d+$/.test(all)) return undefined
  const local = `${year}-${month}-${day}T${hour ?? '00'}:${minute ?? '00'}:${second ?? '00'}${fraction === undefined ? '' : `.${fraction}`}`
  const zone = utc !== undefined ? 'Z' : offset === undefined ? undefined : `${offset}:${offsetMinute ?? '00'}`
  return { local, zone, isDate: hour === undefined }
}

const isEpochUnit = (format: string): format is EpochUnit => Object.hasOwn(EPOCH_UNITS, format)

/** @throws Error with a sentence if the pattern is invalid */
function readerOf(format: string): (text: string) => Clock | undefined {
  if (format === 'iso') return readIso
  if (!isEpochUnit(format)) return compilePattern(format)
  return (text) => {
    const time = readEpoch(text, format)
    return time === undefined ? undefined : { local: time.slice(0, -1), zone: 'Z', isDate: false }
  }
}

const ZONE = '--time-zone Europe/Berlin (or where its clock is; UTC)'

/** The option that would read a time that was not accepted, or what is wrong with it, as a sentence. */
export function suggestTimeFormat(text: string): string {
  const trimmed = text.trim()
  const unit = epochUnit(trimmed)
  if (unit !== undefined) return `Use --time-format ${unit}.`
  const tried = [{ pattern: 'iso' }, ...likelyPatterns(trimmed)].map(({ pattern, assumes }: LikelyPattern) => {
    const clock = tryRead(pattern, trimmed)
    if (clock === undefined) return undefined
    const checked = parseTime(`${clock.local}${clock.zone ?? 'Z'}`)
    if ('problem' in checked) return { problem: checked.problem }
    const zone = clock.zone === undefined && !clock.isDate ? ` ${ZONE}` : ''
    return { assumes, option: `--time-format ${shell(pattern)}${zone}` }
  })
  const [first, second] = tried.flatMap((one) => (one?.option === undefined ? [] : [one]))
  // With points, the day is first everywhere.
  if (first?.assumes !== undefined && second !== undefined && !/^\d\d?\./.test(trimmed))
    return `Use ${first.option} if ${first.assumes}, or ${second.option} if ${second.assumes}.`
  if (first !== undefined) return `Use ${first.option}${first.assumes === DATE ? ` if ${DATE}` : ''}.`
  const problem = tried.find((one) => one?.problem !== undefined)?.problem
  if (problem !== undefined) return `It ${problem}.`
  return trimmed === ''
    ? 'It is empty: omit it, or give it a value.'
    : "Correct it, or describe it with a pattern, such as --time-format 'D.M.YYYY H:mm:ss'."
}

function tryRead(format: string, text: string): Clock | undefined {
  try {
    return readerOf(format)(text)
  } catch {
    return undefined
  }
}

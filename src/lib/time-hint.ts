import { epochUnit, readEpoch } from './epoch-time.ts'

/** Dates and times in ISO 8601 and near to it. */
const PARTS =
  /^(\d{4})([-/.]?)(\d\d)\2(\d\d)(?:[Tt _]+(\d\d):?(\d\d)(?::?(\d\d)(?:[.,](\d+))?)?)?\s*(?:(Z|UTC|GMT)|([+-]\d\d):?(\d\d)?)?$/i

/** Texts that JavaScript can read without a guess about the time zone, such as those of HTTP and mail: Sat, 31 Jan 2026 12:00:00 GMT. */
const WITH_MONTH_NAME = /^[\w ,:]{10,40}(?:GMT|UTC|Z|[+-]\d{4})(?: \([\w ]+\))?$/

/** What was probably meant by something that is not an RFC 3339 time, after a space; an empty text if it is unclear. */
export function timeHint(value: string | number): string {
  const text = String(value)
  if (text === '') return ' It is empty: omit it, or give it a value.'
  const unit = epochUnit(text)
  if (unit !== undefined) return ` As ${unit} since 1970, it is ${readEpoch(text, unit)}.`
  const parts = PARTS.exec(text)
  if (parts !== null) {
    const [, year, , month, day, hour = '00', minute = '00', second = '00', fraction, utc, offset, minutes = '00'] =
      parts
    const date = `${year}-${month}-${day}`
    // With a time of day, the problem itself says so.
    if (!isDate(date)) return parts[5] === undefined ? ' There is no such date.' : ''
    const zone = offset === undefined ? 'Z' : `${offset}:${minutes}`
    const time = `${date}T${hour}:${minute}:${second}${fraction === undefined ? '' : `.${fraction}`}${zone}`
    if (time === text.toUpperCase()) return ''
    const isGuess = utc === undefined && offset === undefined
    return isGuess ? ` It has no UTC offset: if it is in UTC, write ${time}.` : ` Write ${time}.`
  }
  const milliseconds = WITH_MONTH_NAME.test(text) ? Date.parse(text) : Number.NaN
  return Number.isNaN(milliseconds) ? '' : ` Write ${toText(milliseconds)}.`
}

function isDate(text: string): boolean {
  const date = new Date(`${text}T00:00:00Z`)
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(text)
}

const toText = (milliseconds: number) => new Date(milliseconds).toISOString().replace(/\.000Z$/, 'Z')

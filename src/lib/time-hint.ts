/** Units of a number that counts from 1970, by the number of digits before the point in this century. */
const UNITS: [below: number, perMillisecond: number, name: string][] = [
  [1e11, 1e-3, 'seconds'],
  [1e14, 1, 'milliseconds'],
  [1e17, 1e3, 'microseconds'],
  [1e20, 1e6, 'nanoseconds'],
]

/** A number below this, as seconds, is a time before March 1973. It is more likely something else. */
const LEAST = 1e8

/** Dates and times in ISO 8601 and near to it. */
const PARTS =
  /^(\d{4})([-/.]?)(\d\d)\2(\d\d)(?:[Tt _]+(\d\d):?(\d\d)(?::?(\d\d)(?:[.,](\d+))?)?)?\s*(?:(Z|UTC|GMT)|([+-]\d\d):?(\d\d)?)?$/i

/** Texts that JavaScript can read without a guess about the time zone, such as those of HTTP and mail: Sat, 31 Jan 2026 12:00:00 GMT. */
const WITH_MONTH_NAME = /^[\w ,:]{10,40}(?:GMT|UTC|Z|[+-]\d{4})(?: \([\w ]+\))?$/

/** What was probably meant by something that is not an RFC 3339 time, after a space; an empty text if it is unclear. */
export function timeHint(value: string | number): string {
  const text = String(value)
  if (text === '') return ' It is empty: omit it, or give it a value.'
  if (/^\d{9,20}(?:\.\d+)?$/.test(text)) return sinceEpoch(Number(text))
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

function sinceEpoch(number: number): string {
  const [, perMillisecond = 1, name] = UNITS.find(([below]) => number < below) ?? []
  if (name === undefined || number < LEAST) return ''
  return ` As ${name} since 1970, it is ${toText(number / perMillisecond)}.`
}

const toText = (milliseconds: number) => new Date(milliseconds).toISOString().replace(/\.000Z$/, 'Z')

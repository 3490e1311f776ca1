/** RFC 3339, section 5.6. */
const RFC3339 = /^(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))$/

/** A text that timestamptz takes, in UTC and to the microsecond; or, in words, why the time cannot be kept. */
export type TimeResult = { utc: string } | { problem: string }

/**
 * Reads a time of RFC 3339. Done here and not by PostgreSQL, which refuses offsets past 15:59, turns a leap second into
 * the next minute, and rounds a seventh decimal up, across midnight if need be.
 */
export function parseTime(text: string): TimeResult {
  const match = RFC3339.exec(text)
  if (match === null) return { problem: 'must be a time of RFC 3339, like 2026-01-31T12:00:00Z' }
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ]
  const [fraction = '', sign, offsetHour = '0', offsetMinute = '0'] = match.slice(7)

  if (month < 1 || month > 12 || day < 1 || day > daysIn(year, month))
    return { problem: 'names a day that does not exist' }
  if (second === 60) return { problem: 'is a leap second, which PostgreSQL cannot keep' }
  if (hour > 23 || minute > 59 || second > 59) return { problem: 'names a time of day that does not exist' }
  if (Number(offsetHour) > 23 || Number(offsetMinute) > 59) return { problem: 'has an offset that does not exist' }

  // Date.UTC takes the years 0 to 99 for 1900 to 1999; setUTCFullYear does not.
  const local = new Date(0)
  local.setUTCFullYear(year, month - 1, day)
  local.setUTCHours(hour, minute, second)
  const offset = (Number(offsetHour) * 60 + Number(offsetMinute)) * (sign === '-' ? -1 : 1)
  const utc = new Date(local.getTime() - offset * 60_000)
  if (utc.getUTCFullYear() < 1 || utc.getUTCFullYear() > 9999) {
    return { problem: 'lies, in UTC, outside the years 0001 to 9999' }
  }
  // Cut, not rounded: a time never moves into the next second.
  return { utc: `${utc.toISOString().slice(0, 19)}.${fraction.slice(0, 6).padEnd(6, '0')}Z` }
}

function daysIn(year: number, month: number): number {
  if (month === 2) return (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0 ? 29 : 28
  return [4, 6, 9, 11].includes(month) ? 30 : 31
}

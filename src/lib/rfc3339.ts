import { twoDigits } from './pg-time.ts'

/** RFC 3339, section 5.6: all parts before the fraction start at a fixed index. */
const RFC3339 = /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)$/

/** The time as text for timestamptz, in UTC and to the microsecond; or the reason why it is rejected, as the rest of a sentence. */
type TimeResult = { utc: string } | { problem: string }

/**
 * Reads an RFC 3339 time. PostgreSQL would reject UTC offsets above 15:59, turn a leap second into the next minute, and round
 * the seventh decimal, possibly past midnight.
 */
export function parseTime(text: string): TimeResult {
  if (!RFC3339.test(text)) return { problem: 'must be an RFC 3339 time such as 2026-01-31T12:00:00Z' }
  const year = twoDigits(text, 0) * 100 + twoDigits(text, 2)
  const month = twoDigits(text, 5)
  const day = twoDigits(text, 8)
  const [hour, minute, second] = [twoDigits(text, 11), twoDigits(text, 14), twoDigits(text, 17)]
  if (month < 1 || month > 12 || day < 1 || day > daysIn(year, month))
    return { problem: 'has a date that does not exist' }
  if (second === 60) return { problem: 'is a leap second, which PostgreSQL cannot store' }
  if (hour > 23 || minute > 59 || second > 59) return { problem: 'has a time of day that does not exist' }

  const isUtc = text.endsWith('Z') || text.endsWith('z')
  const zoneAt = text.length - (isUtc ? 1 : 6)
  // Truncated, not rounded, so that a time never moves into the next second.
  const fraction = text.slice(19, Math.min(zoneAt, 26))
  if (isUtc) {
    if (year === 0) return { problem: OUTSIDE }
    return { utc: `${text.slice(0, 10)}T${text.slice(11, 19)}${fraction}Z` }
  }

  const [offsetHour, offsetMinute] = [twoDigits(text, zoneAt + 1), twoDigits(text, zoneAt + 4)]
  if (offsetHour > 23 || offsetMinute > 59) return { problem: 'has a UTC offset that does not exist' }
  const offset = (offsetHour * 60 + offsetMinute) * (text.charAt(zoneAt) === '-' ? -1 : 1)
  const utc = new Date(0)
  // Date.UTC would read the years 0 to 99 as 1900 to 1999.
  utc.setUTCFullYear(year, month - 1, day)
  utc.setUTCHours(hour, minute - offset, second)
  if (utc.getUTCFullYear() < 1 || utc.getUTCFullYear() > 9999) return { problem: OUTSIDE }
  return { utc: `${utc.toISOString().slice(0, 19)}${fraction}Z` }
}

const OUTSIDE = 'is outside of the years 0001 to 9999 in UTC'

function daysIn(year: number, month: number): number {
  if (month === 2) return (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0 ? 29 : 28
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31
}

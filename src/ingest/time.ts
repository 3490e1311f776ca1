import { twoDigits } from '../lib/pg-time.ts'

/** RFC 3339, section 5.6: each part stands at a fixed place, up to the fraction. */
const RFC3339 = /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)$/

/** A text that timestamptz takes, in UTC and to the microsecond; or, in words, why the time cannot be kept. */
export type TimeResult = { utc: string } | { problem: string }

/**
 * Reads a time of RFC 3339. Done here and not by PostgreSQL, which refuses offsets past 15:59, turns a leap second into
 * the next minute, and rounds a seventh decimal up, across midnight if need be.
 */
export function parseTime(text: string): TimeResult {
  if (!RFC3339.test(text)) return { problem: 'must be a time of RFC 3339, like 2026-01-31T12:00:00Z' }
  const year = twoDigits(text, 0) * 100 + twoDigits(text, 2)
  const month = twoDigits(text, 5)
  const day = twoDigits(text, 8)
  const [hour, minute, second] = [twoDigits(text, 11), twoDigits(text, 14), twoDigits(text, 17)]
  if (month < 1 || month > 12 || day < 1 || day > daysIn(year, month))
    return { problem: 'names a day that does not exist' }
  if (second === 60) return { problem: 'is a leap second, which PostgreSQL cannot keep' }
  if (hour > 23 || minute > 59 || second > 59) return { problem: 'names a time of day that does not exist' }

  const isUtc = text.endsWith('Z') || text.endsWith('z')
  const zoneAt = text.length - (isUtc ? 1 : 6)
  // Cut, not rounded: a time never moves into the next second.
  const fraction = text.slice(19, Math.min(zoneAt, 26))
  if (isUtc) {
    if (year === 0) return { problem: OUTSIDE }
    return { utc: `${text.slice(0, 10)}T${text.slice(11, 19)}${fraction}Z` }
  }

  const [offsetHour, offsetMinute] = [twoDigits(text, zoneAt + 1), twoDigits(text, zoneAt + 4)]
  if (offsetHour > 23 || offsetMinute > 59) return { problem: 'has an offset that does not exist' }
  const offset = (offsetHour * 60 + offsetMinute) * (text.charAt(zoneAt) === '-' ? -1 : 1)
  const utc = new Date(0)
  // Date.UTC would take the years 0 to 99 for 1900 to 1999.
  utc.setUTCFullYear(year, month - 1, day)
  utc.setUTCHours(hour, minute - offset, second)
  if (utc.getUTCFullYear() < 1 || utc.getUTCFullYear() > 9999) return { problem: OUTSIDE }
  return { utc: `${utc.toISOString().slice(0, 19)}${fraction}Z` }
}

const OUTSIDE = 'lies, in UTC, outside the years 0001 to 9999'

function daysIn(year: number, month: number): number {
  if (month === 2) return (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0 ? 29 : 28
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31
}

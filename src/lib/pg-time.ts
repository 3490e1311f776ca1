/**
 * Converts PostgreSQL's text for a timestamptz (DateStyle ISO, TimeZone UTC) to RFC 3339:
 * `2026-01-31 12:00:00.5+00` → `2026-01-31T12:00:00.5Z`. Keeps the microseconds, which a Date would truncate.
 */
export const toRfc3339 = (text: string): string => `${text.slice(0, 10)}T${text.slice(11, -3)}Z`

/** PostgreSQL's epoch (2000), 400 years later: Date.UTC reads the years 0 to 99 as 1900 to 1999, and the calendar repeats every 400 years. */
const BEGIN_SECONDS = Date.UTC(2400, 0, 1) / 1000

/**
 * Converts a UTC time, `2026-01-31T12:00:00Z` or with up to six decimals, to the microseconds since 2000 that PostgreSQL
 * reads (timestamptz_recv).
 */
export function toMicroseconds(utc: string): bigint {
  const [year, month, day] = [twoDigits(utc, 0) * 100 + twoDigits(utc, 2), twoDigits(utc, 5), twoDigits(utc, 8)]
  const time = Date.UTC(year + 400, month - 1, day, twoDigits(utc, 11), twoDigits(utc, 14), twoDigits(utc, 17))
  let fraction = 0
  for (let at = 20, unit = 100_000; at < utc.length - 1; at++, unit /= 10) fraction += (utc.charCodeAt(at) - 48) * unit
  return BigInt(time / 1000 - BEGIN_SECONDS) * 1_000_000n + BigInt(fraction)
}

/** The inverse of `toMicroseconds`, always with six decimals. */
export function fromMicroseconds(microseconds: bigint): string {
  const fraction = ((microseconds % 1_000_000n) + 1_000_000n) % 1_000_000n
  const seconds = Number((microseconds - fraction) / 1_000_000n) + Date.UTC(2000, 0, 1) / 1000
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}.${String(fraction).padStart(6, '0')}Z`
}

/** The number that the two digits at index `at` represent. */
export const twoDigits = (text: string, at: number) => text.charCodeAt(at) * 10 + text.charCodeAt(at + 1) - 528

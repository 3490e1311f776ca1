/**
 * PostgreSQL's text of a timestamptz, with DateStyle ISO and TimeZone UTC, as RFC 3339:
 * `2026-01-31 12:00:00.5+00` → `2026-01-31T12:00:00.5Z`. Keeps the microseconds, which a Date would cut.
 */
export const toRfc3339 = (text: string): string => `${text.slice(0, 10)}T${text.slice(11, -3)}Z`

/** The calendar repeats itself after 400 years; Date.UTC takes the years 0 to 99 for others. */
const BEGIN_SECONDS = Date.UTC(2400, 0, 1) / 1000

/**
 * The microseconds since 2000 that PostgreSQL holds and sends (timestamptz_recv), of a time in UTC that is
 * `2026-01-31T12:00:00Z` or has up to six digits after the second.
 */
export function toMicroseconds(utc: string): bigint {
  const [year, month, day] = [twoDigits(utc, 0) * 100 + twoDigits(utc, 2), twoDigits(utc, 5), twoDigits(utc, 8)]
  const time = Date.UTC(year + 400, month - 1, day, twoDigits(utc, 11), twoDigits(utc, 14), twoDigits(utc, 17))
  let fraction = 0
  for (let at = 20, unit = 100_000; at < utc.length - 1; at++, unit /= 10) fraction += (utc.charCodeAt(at) - 48) * unit
  return BigInt(time / 1000 - BEGIN_SECONDS) * 1_000_000n + BigInt(fraction)
}

/** The way back, always with six digits. */
export function fromMicroseconds(microseconds: bigint): string {
  const fraction = ((microseconds % 1_000_000n) + 1_000_000n) % 1_000_000n
  const seconds = Number((microseconds - fraction) / 1_000_000n) + Date.UTC(2000, 0, 1) / 1000
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}.${String(fraction).padStart(6, '0')}Z`
}

/** The number that stands at a place of a text, in two digits. */
export const twoDigits = (text: string, at: number) => text.charCodeAt(at) * 10 + text.charCodeAt(at + 1) - 528

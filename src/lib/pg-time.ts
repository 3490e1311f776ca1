/**
 * PostgreSQL's text of a timestamptz, with DateStyle ISO and TimeZone UTC, as RFC 3339:
 * `2026-01-31 12:00:00.5+00` → `2026-01-31T12:00:00.5Z`. Keeps the microseconds, which a Date would cut.
 */
export const toRfc3339 = (text: string): string => `${text.slice(0, 10)}T${text.slice(11, -3)}Z`

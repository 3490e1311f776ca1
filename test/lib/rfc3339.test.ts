import fc from 'fast-check'
import { sql } from 'kysely'
import t from 'tap'
import { parseTime } from '../../src/lib/rfc3339.ts'
import { connect } from '../helpers/connect.ts'
import { openTestServer } from '../helpers/postgres.ts'

const db = connect((await openTestServer()).superUrl)
t.teardown(() => db.destroy())

const two = (max: number) => fc.integer({ min: 0, max }).map((n) => String(n).padStart(2, '0'))
const rfc3339 = () =>
  fc
    .tuple(
      fc.oneof(fc.integer({ min: 1, max: 9999 }), fc.constantFrom(1, 4, 100, 400, 1900, 2000, 2024, 9999)),
      fc.integer({ min: 1, max: 12 }),
      fc.integer({ min: 1, max: 31 }),
      two(23),
      two(59),
      two(59),
      fc.oneof(
        fc.constant(''),
        fc.string({ unit: fc.constantFrom(...'0123456789'), minLength: 1, maxLength: 6 }).map((f) => `.${f}`),
      ),
      fc.oneof(
        fc.constant('Z'),
        // PostgreSQL accepts no offset beyond 15:59. Larger ones are in the table below.
        fc
          .tuple(fc.constantFrom('+', '-'), two(15), two(59))
          .map(([sign, hours, minutes]) => `${sign}${hours}:${minutes}`),
      ),
    )
    .map(([year, month, day, hour, minute, second, fraction, offset]) => {
      const date = `${String(year).padStart(4, '0')}-${String(month).padStart(2, '0')}-${String(day).padStart(2, '0')}`
      return `${date}T${hour}:${minute}:${second}${fraction}${offset}`
    })

t.test('a time is the same moment here and in PostgreSQL, or does not exist in both', async (t) => {
  const times = fc.sample(rfc3339(), 2000)
  const parsed = times.map(parseTime)
  const utc = parsed.map((time) => ('utc' in time ? time.utc : null))
  const { rows } = await sql<{ time: string; utc: string | null; valid: boolean; same: boolean | null; year: number }>`
    SELECT "time", utc, pg_input_is_valid("time", 'timestamptz') AS valid,
           CASE WHEN pg_input_is_valid("time", 'timestamptz') THEN utc::timestamptz = "time"::timestamptz END AS same
    FROM unnest(${times}::text[], ${utc}::text[]) AS times ("time", utc)`.execute(db)
  const wrong = rows.filter(({ time, utc, valid, same }) => {
    if (utc !== null) return same !== true
    // Its offset moves it into the year 0 or 10000, which exist in PostgreSQL but not in RFC 3339.
    return valid && !/^(0001-01-01|9999-12-31)/.test(time)
  })
  t.same(wrong, [])
  t.ok(utc.filter((time) => time !== null).length > 1000)
  t.ok(utc.includes(null), 'and some do not exist')
})

t.test('times that PostgreSQL would round, refuse or change are converted or rejected here', async (t) => {
  for (const [time, utc] of [
    ['2026-01-31T12:00:00.9999999Z', '2026-01-31T12:00:00.999999Z'],
    ['2026-12-31T23:59:59.9999995Z', '2026-12-31T23:59:59.999999Z'],
    ['2026-01-31T12:00:00+23:59', '2026-01-30T12:01:00Z'],
    ['2026-01-31T12:00:00-16:00', '2026-02-01T04:00:00Z'],
    ['2026-01-31T12:00:00-00:00', '2026-01-31T12:00:00Z'],
    ['2024-02-29T00:00:00z', '2024-02-29T00:00:00Z'],
    ['0000-12-31T23:30:00-01:00', '0001-01-01T00:30:00Z'],
    ['9999-12-31T23:59:59.999999Z', '9999-12-31T23:59:59.999999Z'],
  ] as const) {
    t.equal(trimmed(parseTime(time)), utc, time)
  }
  for (const time of [
    '2016-12-31T23:59:60Z',
    '2026-01-31T24:00:00Z',
    '2026-01-31T12:60:00Z',
    '2026-01-31T12:00:61Z',
    '2026-01-31T12:00:00+24:00',
    '2026-01-31T12:00:00+00:60',
    '1900-02-29T00:00:00Z',
    '2026-04-31T00:00:00Z',
    '2026-00-01T00:00:00Z',
    '2026-01-00T00:00:00Z',
    '0000-06-01T00:00:00Z',
    '9999-12-31T23:59:59-00:01',
    '0001-01-01T00:00:00+00:01',
    '-0001-01-01T00:00:00Z',
    '+12026-01-01T00:00:00Z',
    '2026-01-31 12:00:00Z',
    '2026-01-31T12:00:00',
    '2026-01-31T12:00Z',
    '2026-01-31T12:00:00.Z',
    '2026-01-31T12:00:00,5Z',
    '2026-01-31T12:00:00+0100',
    '2026-01-31T12:00:00Z\n',
    ' 2026-01-31T12:00:00Z',
    '\u0662026-01-31T12:00:00Z',
    'infinity',
    'now',
    '',
  ]) {
    t.match(parseTime(time), { problem: /\w/ }, JSON.stringify(time))
  }
})

/** The time without zeros at the end of its fraction. */
function trimmed(time: ReturnType<typeof parseTime>): string {
  return 'utc' in time
    ? time.utc.replace(/\.(\d*?)0*Z$/, (_, digits) => (digits === '' ? 'Z' : `.${digits}Z`))
    : time.problem
}

import t from 'tap'
import { timeZone } from '../../src/client/times/zone.ts'
import { suggestTimeFormat, timeReader } from '../../src/client/times.ts'

/** Reads a time, or says why it is not one. */
function read(format: string, text: string, zone?: string): string {
  const result = timeReader(format, zone === undefined ? undefined : timeZone(zone))(text)
  return 'time' in result ? result.time : result.reason
}

t.test('a time becomes RFC 3339, with all its digits', (t) => {
  for (const [format, text, time, zone] of [
    ['iso', '2012-01-01', '2012-01-01T00:00:00Z'],
    ['iso', '2012-01-01T12:00:00Z', '2012-01-01T12:00:00Z'],
    ['iso', ' 2012-01-01T12:00:00+0000 ', '2012-01-01T12:00:00+00:00'],
    ['iso', '2012-01-01 12:00:00+00', '2012-01-01T12:00:00+00:00'],
    ['iso', '2012-01-01 12:00:00.123456-03:30', '2012-01-01T12:00:00.123456-03:30'],
    ['iso', '2012-01-01 12:00:00,5 +0530', '2012-01-01T12:00:00.5+05:30'],
    ['iso', '2012-01-01 12:00:00 +0000 UTC', '2012-01-01T12:00:00+00:00'],
    ['iso', '2012-01-01 12:00 UTC', '2012-01-01T12:00:00Z'],
    ['iso', '20120101T120000Z', '2012-01-01T12:00:00Z'],
    ['iso', '2012-07-01', '2012-06-30T22:00:00Z', 'Europe/Berlin'],
    ['iso', '2012-07-01 12:00:00.1234567891', '2012-07-01T10:00:00.123456789Z', 'Europe/Berlin'],
    ['iso', '2012-07-01 12:00Z', '2012-07-01T12:00:00Z', 'Europe/Berlin'],
    // At midnight, the clocks were changed.
    ['iso', '2018-11-04', '2018-11-04T03:00:00Z', 'America/Sao_Paulo'],
    ['seconds', '1325376000', '2012-01-01T00:00:00Z'],
    ['seconds', '1325376000.123456', '2012-01-01T00:00:00.123456Z'],
    ['seconds', '1.325376e9', '2012-01-01T00:00:00Z'],
    ['seconds', '-1.5', '1969-12-31T23:59:58.5Z'],
    ['seconds', '0', '1970-01-01T00:00:00Z'],
    ['milliseconds', '1325376000123', '2012-01-01T00:00:00.123Z'],
    ['milliseconds', '1325376000123.4', '2012-01-01T00:00:00.1234Z'],
    ['milliseconds', '-1', '1969-12-31T23:59:59.999Z'],
    ['microseconds', '1325376000123456', '2012-01-01T00:00:00.123456Z'],
    ['nanoseconds', '1325376000123456789', '2012-01-01T00:00:00.123456789Z'],
    ['DD.MM.YYYY', '31.12.2025', '2025-12-31T00:00:00Z'],
    ['DD.MM.YYYY HH:mm:ss', '31.12.2025 23:59:00', '2025-12-31T22:59:00Z', 'Europe/Berlin'],
    ['M/D/YYYY h:mm A', '1/2/2025 12:05 am', '2025-01-02T00:05:00Z', 'UTC'],
    ['M/D/YYYY h:mm A', '1/2/2025 12:05 PM', '2025-01-02T12:05:00Z', 'UTC'],
    ['DD/MMM/YYYY:HH:mm:ss Z', '10/Oct/2000:13:55:36 -0700', '2000-10-10T13:55:36-07:00'],
    ['YYYYMMDDTHHmmss.SSSZ', '20120101T120000.5Z', '2012-01-01T12:00:00.5Z'],
    ['YYYYMMDD', '20120101', '2012-01-01T00:00:00Z'],
  ] as const)
    t.equal(read(format, text, zone), time, `${format}: ${text}`)
  t.end()
})

t.test('a time that does not fit is refused, and the option that would fit is named', (t) => {
  for (const [format, text, reason, zone] of [
    ['iso', '1325376000', '"1325376000" does not fit --time-format iso. Use --time-format seconds.'],
    ['iso', '2012-02-30', '"2012-02-30" has a date that does not exist.'],
    ['iso', '2012-01-01 24:00:00Z', /has a time of day that does not exist/],
    ['iso', '2012-01-01 12:00', /^"2012-01-01 12:00" has no offset from UTC\. .* --time-zone Europe\/Berlin/],
    ['iso', '20120101', /^"20120101" does not fit/],
    ['iso', '2012-01-0112:00', /does not fit/],
    [
      'iso',
      '2025-03-30 02:30',
      /^"2025-03-30 02:30" does not exist in this time zone, or exists twice/,
      'Europe/Berlin',
    ],
    ['iso', '2025-10-26 02:30', /does not exist in this time zone, or exists twice/, 'Europe/Berlin'],
    ['iso', '2012-01-32', /has a date that does not exist/, 'Europe/Berlin'],
    ['seconds', '1325376000123', /Use --time-format milliseconds\.$/],
    ['seconds', '1e30', /does not fit/],
    ['seconds', '2012-01-01', /Use --time-format iso\.$/],
    ['milliseconds', '0x10', /does not fit/],
    ['DD.MM.YYYY', '31.02.2025', /has a date that does not exist/],
    ['DD.MM.YYYY', '12.31.2025', /has a date that does not exist/],
    ['DD.MM.YYYY', '1.2.2025', '"1.2.2025" does not fit --time-format DD.MM.YYYY. Use --time-format \'D.M.YYYY\'.'],
    ['DD.MM.YYYY', '31x12x2025', /does not fit/],
    ['M/D/YYYY h:mm A', '1/2/2025 13:05 PM', /does not fit/, 'UTC'],
    ['iso', '\x1b[2J', /^"\\u001b\[2J" does not fit/],
  ] as const)
    t.match(read(format, text, zone), reason, `${format}: ${text}`)
  t.end()
})

t.test('an option is suggested only if it would read the time', (t) => {
  for (const [text, suggestion] of [
    ['2012-01-01', 'Use --time-format iso.'],
    ['2012-01-01 00:00:00+0000', 'Use --time-format iso.'],
    ['2012-01-01 12:00', 'Use --time-format iso --time-zone Europe/Berlin (or where its clock is, or UTC).'],
    ['1325376000', 'Use --time-format seconds.'],
    ['1325376000.5', 'Use --time-format seconds.'],
    ['1325376000123456', 'Use --time-format microseconds.'],
    ['20120101', 'Use --time-format YYYYMMDD if it is a date.'],
    ['31.12.2025', "Use --time-format 'DD.MM.YYYY'."],
    ['2025/12/31 1:05', "Use --time-format 'YYYY/MM/DD H:mm' --time-zone Europe/Berlin (or where its clock is; UTC)."],
    ['1/2/2025', "Use --time-format 'D/M/YYYY' if the day is first, or --time-format 'M/D/YYYY' if the month is."],
    [
      '12/31/2025 11:59:01.5 PM',
      "Use --time-format 'MM/DD/YYYY hh:mm:ss.S A' --time-zone Europe/Berlin (or where its clock is; UTC).",
    ],
    ['10/Oct/2000:13:55:36 -0700', "Use --time-format 'DD/MMM/YYYY:HH:mm:ss Z'."],
    ['yesterday', /^Use --time-format iso, seconds, .* or a pattern such as/],
  ] as const) {
    t.match(suggestTimeFormat(text), suggestion)
    const [, format] = /--time-format '?([^']+?)'?(?: if |\.$| --time-zone)/.exec(suggestTimeFormat(text)) ?? []
    if (text !== 'yesterday') t.match(read(format ?? '', text, 'UTC'), /^\d{4}-\d\d-\d\dT/, `${format} reads ${text}`)
  }
  t.end()
})

t.test('an invalid pattern or time zone is refused with the tokens that exist', (t) => {
  for (const [pattern, message] of [
    ['yyyy-MM-dd', /^--time-format yyyy-MM-dd: yyyydd is not a token\. The tokens are YYYY/],
    ['%Y-%m-%d', /is not a token/],
    ['YYYY', /it needs a year, a month and a day/],
    ['YYYY-MM-DD DD', /a token occurs twice/],
    ['YYYY-MM-DD hh:mm', /hh and h need A/],
    ['YYYY-MM-DD HH:mm A', /hh and h need A/],
    ['YYYY-MM-DD mm', /a part of the time of day is missing/],
  ] as const)
    t.throws(() => timeReader(pattern, undefined), { message })
  t.throws(() => timeZone('Berlin'), { message: /^there is no time zone Berlin\. Use a name such as Europe\/Berlin/ })
  t.end()
})

import t from 'tap'
import { shell } from '../../src/client/mapping.ts'
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
    ['iso', '2012-01-01 12:00:00.5 +0100 CET m=+0.000123', '2012-01-01T12:00:00.5+01:00'],
    ['iso', '2012-01-01 12:00:00 +0300 +03', '2012-01-01T12:00:00+03:00'],
    ['D.M.YY', '31.12.25', '2025-12-31T00:00:00Z'],
    ['D.M.YY', '1.2.69', '1969-02-01T00:00:00Z'],
    ['D.M.YYYY H:mm [Uhr]', '05.01.2026 9:05 Uhr', '2026-01-05T08:05:00Z', 'Europe/Berlin'],
    ['MMMM D, YYYY', 'january 5, 2026', '2026-01-05T00:00:00Z'],
    ['MMMM D, YYYY', 'May 5, 2026', '2026-05-05T00:00:00Z'],
    ['ddd, D MMM YYYY HH:mm:ss Z', 'Mon, 05 Jan 2026 10:00:00 GMT', '2026-01-05T10:00:00Z'],
    ['D/M/YYYY h:mm A', '5/1/2026 9:05 p.m.', '2026-01-05T21:05:00Z', 'UTC'],
    // In the first weeks of 1970.
    ['milliseconds', '1764547200.0', '1970-01-21T10:09:07.2Z'],
    ['seconds', '20261345', '1970-08-23T12:09:05Z'],
    ['seconds', '20260105.0', '1970-08-23T11:48:25Z'],
    ['milliseconds', '86400000', '1970-01-02T00:00:00Z'],
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
    ['DD.MM.YYYY', '1.2.2025', '"1.2.2025" does not fit --time-format DD.MM.YYYY. Use --time-format D.M.YYYY.'],
    [
      'milliseconds',
      '1764547200',
      '"1764547200" as milliseconds is 1970-01-21T10:09:07.2Z, but as seconds it is 2025-12-01T00:00:00Z. Use --time-format seconds. If it is right, write 1764547200.0.',
    ],
    ['nanoseconds', '1764547200123456', /is 1970-01-21.*, but as microseconds it is 2025-12-01T00:00:00\.123456Z/],
    ['seconds', '20260105', /^"20260105" as seconds is 1970-08-23.*, but as YYYYMMDD it is 2026-01-05T00:00:00\./],
    ['milliseconds', '20260105103000', /, but as YYYYMMDDHHmmss it is 2026-01-05T10:30:00\. Use --time-format YYYY/],
    ['iso', 'gestern', /^"gestern" does not fit --time-format iso\. Correct it, or describe it with a pattern/],
    ['MMMM D, YYYY', 'Mai 5, 2026', /does not fit/],
    ['D/M/YYYY', '12/31/2025', '"12/31/2025" has a date that does not exist. Use --time-format M/D/YYYY.'],
    ['DD.MM.YYYY', '31x12x2025', /does not fit/],
    ['M/D/YYYY h:mm A', '1/2/2025 13:05 PM', /does not fit/, 'UTC'],
    ['iso', '\x1b[2J', /^"\\u001b\[2J" does not fit/],
  ] as const)
    t.match(read(format, text, zone), reason, `${format}: ${text}`)
  t.end()
})

t.test('an option is suggested only if it would read the time', (t) => {
  const zone = '--time-zone Europe/Berlin (or where its clock is; UTC)'
  for (const [text, suggestion] of [
    ['2012-01-01', 'Use --time-format iso.'],
    ['2012-01-01 00:00:00+0000', 'Use --time-format iso.'],
    ['2012-01-01 12:00:00 +0100 CET m=+0.001', 'Use --time-format iso.'],
    ['2012-01-01 12:00', `Use --time-format iso ${zone}.`],
    ['1325376000', 'Use --time-format seconds.'],
    ['1325376000.5', 'Use --time-format seconds.'],
    ['1325376000123456', 'Use --time-format microseconds.'],
    ['20120101', 'Use --time-format YYYYMMDD if it is a date.'],
    ['20120101123000', `Use --time-format YYYYMMDDHHmmss ${zone} if it is a date.`],
    ['31.12.2025', 'Use --time-format D.M.YYYY.'],
    ['1.2.2025', 'Use --time-format D.M.YYYY.'],
    ['31.12.25', 'Use --time-format D.M.YY.'],
    ['2025/12/31 1:05', `Use --time-format 'YYYY/M/D H:mm' ${zone}.`],
    ['1/2/2025', 'Use --time-format D/M/YYYY if the day is first, or --time-format M/D/YYYY if the month is.'],
    ['12/31/2025', 'Use --time-format M/D/YYYY.'],
    ['31-12-2025', 'Use --time-format D-M-YYYY.'],
    ['12/31/2025 11:59:01.5 PM', `Use --time-format 'M/D/YYYY h:mm:ss.S A' ${zone}.`],
    ['31/12/2025, 9:05 a.m.', `Use --time-format 'D/M/YYYY, h:mm A' ${zone}.`],
    ['05.01.2026 9:05 Uhr', `Use --time-format 'D.M.YYYY H:mm [Uhr]' ${zone}.`],
    ['05.01.2026 9:05:00 Europe/Berlin', `Use --time-format 'D.M.YYYY H:mm:ss [Europe/Berlin]' ${zone}.`],
    ['10/Oct/2000:13:55:36 -0700', "Use --time-format 'D/MMM/YYYY:H:mm:ss Z'."],
    ['Mon, 05 Jan 2026 10:00:00 +0100', "Use --time-format 'ddd, D MMM YYYY H:mm:ss Z'."],
    ['January 5, 2026 at 10:00 PM', `Use --time-format 'MMMM D, YYYY [at] h:mm A' ${zone}.`],
    ['5-Jan-2026', 'Use --time-format D-MMM-YYYY.'],
    ['2026-02-30', 'It has a date that does not exist.'],
    ['2026-01-01T24:00:00Z', 'It has a time of day that does not exist.'],
    ['2026-01-01T12:00:60Z', 'It is a leap second, which PostgreSQL cannot store.'],
    ['31.2.2026', 'It has a date that does not exist.'],
    ['', 'It is empty: omit it, or give it a value.'],
    ['yesterday', /^Correct it, or describe it with a pattern, such as --time-format/],
  ] as const) {
    const suggested = suggestTimeFormat(text)
    if (typeof suggestion === 'string') t.equal(suggested, suggestion, text)
    else t.match(suggested, suggestion, text)
    for (const [, quotedFormat, word] of suggested.matchAll(/--time-format (?:'([^']+)'|([^\s',]+?))(?=\.?(?: |$|,))/g))
      if (text !== 'yesterday')
        t.match(read(quotedFormat ?? word ?? '', text, 'UTC'), /^\d{4}-\d\d-\d\dT/, `reads ${text}`)
  }
  t.end()
})

t.test('an invalid pattern or time zone is refused, with what was probably meant', (t) => {
  for (const [pattern, message] of [
    ['yyyy-MM-dd', '"yyyy" and "dd" in it are not tokens. Use --time-format YYYY-MM-DD if that is meant'],
    ['dd.MM.yyyy', '"dd" and "yyyy" in it are not tokens. Use --time-format DD.MM.YYYY if that is meant'],
    ["yyyy-MM-dd'T'HH:mm:ss.SSSXXX", /Use --time-format 'YYYY-MM-DD\[T\]HH:mm:ss\.SSSZ' if that is meant$/],
    ['%Y-%m-%d', '"%Y" and "%m" and "%d" in it are not tokens. Use --time-format YYYY-MM-DD if that is meant'],
    ['%d/%b/%Y:%H:%M:%S %z', /Use --time-format 'DD\/MMM\/YYYY:HH:mm:ss Z' if that is meant$/],
    ['ISO', /Use --time-format iso if that is meant$/],
    ['RFC3339', /Use --time-format iso if that is meant$/],
    ['epoch', /Use --time-format seconds if that is meant$/],
    ['unix', /Use --time-format seconds if that is meant$/],
    ['ms', /Use --time-format milliseconds if that is meant$/],
    ['DD.MM.YYYY HH24:MI:SS', /Use --time-format 'DD\.MM\.YYYY HH:mm:ss' if that is meant$/],
    [
      'YYYY-MM-DD HH:MM:SS',
      "it has the month 2 times (MM, MM). Use --time-format 'YYYY-MM-DD HH:mm:ss' if that is meant",
    ],
    ['yyyy-mm-dd hh:mm:ss', /"yyyy" and "dd" in it are not tokens/],
    ['YYYY', /it needs a year, a month and a day\. It must be iso, seconds, .* or a pattern of a time with YYYY/],
    ['YYYY-MM-DD D', /it has the day 2 times \(DD, D\)/],
    ['YYYY-MM-DD hh:mm', /hh and h need A/],
    ['YYYY-MM-DD HH:mm A', /hh and h need A/],
    ['YYYY-MM-DD mm', /a part of the time of day is missing/],
  ] as const)
    t.throws(() => timeReader(pattern, undefined), {
      message: typeof message === 'string' ? `--time-format ${shell(pattern)}: ${message}` : message,
    })
  t.throws(() => timeZone('Berlin'), { message: /^there is no time zone Berlin\. Use a name such as Europe\/Berlin/ })
  t.end()
})

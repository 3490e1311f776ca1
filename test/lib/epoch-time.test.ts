import t from 'tap'
import { type EpochUnit, epochUnit, readEpoch } from '../../src/lib/epoch-time.ts'

t.test('a number since 1970 keeps all its digits, and its unit is known by their number', (t) => {
  for (const [text, unit, time] of [
    ['1764547200', 'seconds', '2025-12-01T00:00:00Z'],
    ['1764547200.25', 'seconds', '2025-12-01T00:00:00.25Z'],
    ['1764547200123', 'milliseconds', '2025-12-01T00:00:00.123Z'],
    ['1764547200123456', 'microseconds', '2025-12-01T00:00:00.123456Z'],
    ['1764547200123456789', 'nanoseconds', '2025-12-01T00:00:00.123456789Z'],
    ['5', undefined],
    ['12345678901', undefined],
    ['x', undefined],
  ] as [string, EpochUnit | undefined, string?][]) {
    t.equal(epochUnit(text), unit, text)
    if (unit !== undefined) t.equal(readEpoch(text, unit), time)
  }
  t.equal(readEpoch('253402300800', 'seconds'), undefined, 'after the year 9999')
  t.end()
})

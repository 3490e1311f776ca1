import fc from 'fast-check'
import t from 'tap'
import { forecast } from '../../src/status/forecast.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR

const hourly = (days: number, used: (hour: number) => number) =>
  Array.from({ length: days * 24 + 1 }, (_, hour) => ({ at: hour * HOUR, usedBytes: used(hour) }))

t.test('steady growth reaches the limit when a straight line does', async () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 7 }),
      fc.integer({ min: 1, max: 1000 }),
      fc.integer({ min: 1, max: 300 }),
      (days, perHour, left) => {
        const samples = hourly(days, (hour) => 5000 + hour * perHour)
        const found = forecast(samples, 5000 + perHour * (days * 24 + left))
        return found !== undefined && Math.abs(found.fullAt - (days * 24 + left) * HOUR) < HOUR / 100
      },
    ),
  )
})

t.test('what retention deletes each night is part of the trend, at any hour', async (t) => {
  // It grows by 24 in a day, and loses 12 at night.
  const used = (hour: number) => 1000 + hour - 12 * Math.floor(hour / 24)
  for (const hours of [1, 12, 23]) {
    const samples = hourly(8, used).slice(0, 7 * 24 + hours)
    const last = samples.at(-1) as (typeof samples)[0]
    const found = forecast(samples, last.usedBytes + 120)
    t.match(found, { fullAt: last.at + 10 * DAY })
  }
  t.equal(
    forecast(
      hourly(7, (hour) => 1000 + (hour % 24)),
      1100,
    ),
    undefined,
    'retention deletes as much as comes in',
  )
})

t.test('growth that begins today is noticed today', async (t) => {
  const samples = hourly(7, (hour) => 40 + Math.max(0, hour - (7 * 24 - 12)))
  t.same(forecast(samples, 90), { fullAt: (7 + (90 - 52) / 12) * DAY, as: 'day' })
})

t.test('a single large load counts for a day, and then no more', async (t) => {
  const loaded = (after: number) => hourly(14, (hour) => (hour < 7 * 24 ? 30 : 65)).slice(0, 7 * 24 + after)
  t.match(forecast(loaded(3), 90), { as: 'day' })
  t.equal(forecast(loaded(26), 90), undefined)
  t.equal(forecast(loaded(5 * 24), 90), undefined)
})

t.test('a quiet day does not hide the growth of the week', async (t) => {
  const samples = hourly(7, (hour) => Math.min(hour, 6 * 24))
  t.same(forecast(samples, 6 * 24 + 48), { fullAt: 9 * DAY, as: 'week' })
})

t.test('hours without a sample', async (t) => {
  const samples = hourly(7, (hour) => hour).filter((_, index) => index % 24 < 3 || index === 7 * 24)
  t.match(forecast(samples, 7 * 24 + 24), { fullAt: 8 * DAY })
})

t.test('nobody can say: too early, shrinking, steady, or further away than a year', async (t) => {
  const none = [
    [],
    hourly(1, (hour) => hour).slice(0, 20),
    hourly(3, (hour) => 100 - hour),
    hourly(3, () => 50),
    hourly(3, (hour) => hour / 1000),
  ]
  for (const samples of none) t.equal(forecast(samples, 110), undefined)
})

t.test('what is full already is full now', async (t) => {
  t.match(
    forecast(
      hourly(2, (hour) => hour),
      40,
    ),
    { fullAt: 2 * DAY },
  )
})

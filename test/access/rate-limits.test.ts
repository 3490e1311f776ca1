import fc from 'fast-check'
import t from 'tap'
import type { Key } from '../../src/access/key.ts'
import { type RateLimit, RateLimits } from '../../src/access/rate-limits.ts'
import { Problem } from '../../src/problems.ts'
import { stopClock } from '../helpers/clock.ts'

const makeKey = (id: string, recordsPerSecond: number | null = null) => ({ id, recordsPerSecond }) as Key

/** The headers of the refusal; undefined if the request is admitted. */
function refusal(limit: RateLimit): Record<string, string> | undefined {
  try {
    limit.admit()
    return undefined
  } catch (error) {
    if (error instanceof Problem && error.code === 'rate_limited') return error.headers
    throw error
  }
}

t.test('a key has its own rate, the default rate, or none', async (t) => {
  const none = new RateLimits(undefined)
  t.equal(none.of(makeKey('a')), undefined)
  t.equal(none.of(makeKey('a', 5))?.recordsPerSecond, 5)
  const some = new RateLimits(7)
  t.equal(some.of(makeKey('a'))?.recordsPerSecond, 7)
  t.equal(some.of(makeKey('b', 5))?.recordsPerSecond, 5)
})

t.test('the limit of a key counts all of its requests, and none of another key', async (t) => {
  stopClock(t)
  const limits = new RateLimits(1)
  limits.of(makeKey('a'))?.charge(10)
  t.ok(refusal(limits.of(makeKey('a')) as RateLimit))
  t.notOk(refusal(limits.of(makeKey('b')) as RateLimit))
})

t.test('after a pause, ten seconds’ worth can be sent at once, and then as much as the rate allows', async (t) => {
  const clock = stopClock(t)
  const limit = new RateLimits(5).of(makeKey('a')) as RateLimit
  const countAdmitted = () => {
    for (let count = 0; ; count++) if (refusal(limit)) return count
  }
  t.equal(countAdmitted(), 50)
  clock.jump(200)
  t.equal(countAdmitted(), 1)
  clock.jump(1000)
  t.equal(countAdmitted(), 5)
  clock.jump(3_600_000)
  t.equal(countAdmitted(), 50, 'no more, even after an hour')
})

t.test('a batch over the limit becomes debt, and the key is refused until the debt is repaid', async (t) => {
  const clock = stopClock(t)
  const limit = new RateLimits(10).of(makeKey('a')) as RateLimit
  limit.admit()
  limit.charge(999)
  t.match(refusal(limit), { 'retry-after': '91', ratelimit: '"records";r=0;t=91' })
  clock.jump(89_000)
  t.match(refusal(limit), { 'retry-after': '2' })
  clock.jump(2_000)
  t.notOk(refusal(limit))
})

t.test('a request that waits for Retry-After is admitted', async (t) => {
  const clock = stopClock(t)
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1000 }), fc.integer({ min: 1, max: 100_000 }), (rate, records) => {
      const limit = new RateLimits(rate).of(makeKey('a')) as RateLimit
      limit.charge(records)
      const wait = refusal(limit)?.['retry-after']
      if (wait === undefined) return
      clock.jump(Number(wait) * 1000)
      if (refusal(limit)) throw new Error(`refused after ${wait} s`)
    }),
  )
})

t.test('over time a key can send as much as its rate allows, whatever the size of its batches', async (t) => {
  const clock = stopClock(t)
  const limit = new RateLimits(100).of(makeKey('a')) as RateLimit
  let sent = 0
  for (let second = 0; second < 1000; second++) {
    for (const size of [1, 750, 30]) {
      if (refusal(limit)) continue
      limit.charge(size - 1)
      sent += size
    }
    clock.jump(1000)
  }
  t.ok(sent >= 100_000 && sent <= 100_000 + 1000 + 750, `${sent} in 1000 seconds`)
})

t.test('the headers have the policy, what remains, and when the whole limit is available again', async (t) => {
  const clock = stopClock(t)
  const limit = new RateLimits(10).of(makeKey('a')) as RateLimit
  t.same(limit.headers, { 'ratelimit-policy': '"records";q=100;w=10', ratelimit: '"records";r=100;t=0' })
  limit.charge(25)
  t.equal(limit.headers.ratelimit, '"records";r=75;t=3')
  clock.jump(1500)
  t.equal(limit.headers.ratelimit, '"records";r=90;t=1')
})

t.test('a changed rate applies at once', (t) => {
  const limits = new RateLimits(undefined)
  limits.of(makeKey('a', 1))?.charge(100)
  const changed = limits.of(makeKey('a', 5)) as RateLimit
  t.equal(changed.recordsPerSecond, 5)
  t.equal(refusal(changed), undefined)
  t.end()
})

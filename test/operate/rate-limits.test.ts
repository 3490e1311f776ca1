import fc from 'fast-check'
import t from 'tap'
import { Problem } from '../../src/lib/problems.ts'
import type { Key } from '../../src/operate/keys.ts'
import { type RateLimit, RateLimits } from '../../src/operate/rate-limits.ts'
import { stopClock } from '../helpers/clock.ts'

const makeKey = (id: string, recordsPerSecond: number | null = null) => ({ id, recordsPerSecond }) as Key

/** The headers of the refusal; undefined: it was let in. */
function refusal(limit: RateLimit): Record<string, string> | undefined {
  try {
    limit.admit()
    return undefined
  } catch (error) {
    if (error instanceof Problem && error.code === 'rate_limited') return error.headers
    throw error
  }
}

t.test('a key has its own rate, or the one for all, or none', async (t) => {
  const none = new RateLimits(undefined)
  t.equal(none.of(makeKey('a')), undefined)
  t.equal(none.of(makeKey('a', 5))?.recordsPerSecond, 5)
  const some = new RateLimits(7)
  t.equal(some.of(makeKey('a'))?.recordsPerSecond, 7)
  t.equal(some.of(makeKey('b', 5))?.recordsPerSecond, 5)
})

t.test('a key keeps what it has left from request to request, and shares it with no other', async (t) => {
  stopClock(t)
  const limits = new RateLimits(1)
  limits.of(makeKey('a'))?.charge(10)
  t.ok(refusal(limits.of(makeKey('a')) as RateLimit))
  t.notOk(refusal(limits.of(makeKey('b')) as RateLimit))
})

t.test('after a pause ten seconds’ worth may be sent at once, then as much as the rate says', async (t) => {
  const clock = stopClock(t)
  const limit = new RateLimits(5).of(makeKey('a')) as RateLimit
  const letInNow = () => {
    for (let count = 0; ; count++) if (refusal(limit)) return count
  }
  t.equal(letInNow(), 50)
  clock.jump(200)
  t.equal(letInNow(), 1)
  clock.jump(1000)
  t.equal(letInNow(), 5)
  clock.jump(3_600_000)
  t.equal(letInNow(), 50, 'and no more after an hour')
})

t.test('a batch beyond what is left is taken, and paid for before the next request', async (t) => {
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

t.test('Retry-After is never too early: who waits for so long is let in', async (t) => {
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

t.test('over time a key sends as much as its rate, whatever its batches', async (t) => {
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

t.test('headers say the policy, what is left, and when more is', async (t) => {
  const clock = stopClock(t)
  const limit = new RateLimits(10).of(makeKey('a')) as RateLimit
  t.same(limit.headers, { 'ratelimit-policy': '"records";q=100;w=10', ratelimit: '"records";r=100;t=0' })
  limit.charge(25)
  t.equal(limit.headers.ratelimit, '"records";r=75;t=3')
  clock.jump(1500)
  t.equal(limit.headers.ratelimit, '"records";r=90;t=1')
})

t.test('a key whose rate was changed has the new one at once', (t) => {
  const limits = new RateLimits(undefined)
  limits.of(makeKey('a', 1))?.charge(100)
  const changed = limits.of(makeKey('a', 5)) as RateLimit
  t.equal(changed.recordsPerSecond, 5)
  t.equal(refusal(changed), undefined)
  t.end()
})

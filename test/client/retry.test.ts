import t from 'tap'
import { retry } from '../../src/client/retry.ts'
import { TryAgain } from '../../src/client/server.ts'
import { stopClock, turn } from '../helpers/clock.ts'

t.test('retry doubles its waits up to ten seconds, honours Retry-After, and gives up after ten tries', async (t) => {
  const clock = stopClock(t)
  const waits: number[] = []
  const began = performance.now()
  let last = began
  const retryAfter = [0, 30_000]
  const done = retry(async () => {
    waits.push(performance.now() - last)
    last = performance.now()
    throw new TryAgain('no', { waitMs: retryAfter[waits.length - 1] })
  })
  let ended = false
  void done.catch(() => {
    ended = true
  })
  while (!ended) await clock.tick(100)
  await t.rejects(done, { message: 'no' })
  t.same(
    waits.map((ms) => Math.round(ms / 100) / 10),
    [0, 0.5, 30, 2, 4, 8, 10, 10, 10, 10],
  )
})

t.test('with tries without end it goes on, and says so', async (t) => {
  const clock = stopClock(t)
  const waits: string[] = []
  let tried = 0
  const done = retry(
    async () => {
      if (++tried < 50) throw new TryAgain('no')
      return 'yes'
    },
    { tries: Number.POSITIVE_INFINITY, onWait: (text) => waits.push(text) },
  )
  while (tried < 50) await clock.tick(10_000)
  t.equal(await done, 'yes')
  t.same(new Set(waits), new Set(['no; trying again until it succeeds']))
})

t.test('an error that is not a TryAgain is thrown at once', async (t) => {
  let tries = 0
  await t.rejects(
    retry(async () => {
      tries++
      throw new Error('no')
    }),
    { message: 'no' },
  )
  t.equal(tries, 1)
})

t.test('a stop ends the wait', async (t) => {
  stopClock(t)
  const stop = new AbortController()
  const done = retry(() => Promise.reject(new TryAgain('no')), { stop: stop.signal })
  await turn()
  stop.abort()
  await t.rejects(done, { code: 'ABORT_ERR' })
})

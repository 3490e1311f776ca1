import t from 'tap'
import { retry } from '../../src/client/retry.ts'
import { TryAgain } from '../../src/client/server.ts'
import { stopClock, turn } from '../helpers/clock.ts'

t.test('it waits longer each time, never less than it was asked to, and gives up after some minute', async (t) => {
  const clock = stopClock(t)
  const waits: number[] = []
  const began = performance.now()
  let last = began
  const asked = [0, 30_000]
  const done = retry(async () => {
    waits.push(performance.now() - last)
    last = performance.now()
    throw new TryAgain('no', { waitMs: asked[waits.length - 1] })
  })
  let over = false
  void done.catch(() => {
    over = true
  })
  while (!over) await clock.tick(100)
  await t.rejects(done, { message: 'no' })
  t.same(
    waits.map((ms) => Math.round(ms / 100) / 10),
    [0, 0.5, 30, 2, 4, 8, 10, 10, 10, 10],
  )
})

t.test('what is no reason to try again is thrown at once', async (t) => {
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

t.test('whoever stops it does not wait', async (t) => {
  stopClock(t)
  const stop = new AbortController()
  const done = retry(() => Promise.reject(new TryAgain('no')), { stop: stop.signal })
  await turn()
  stop.abort()
  await t.rejects(done, { code: 'ABORT_ERR' })
})

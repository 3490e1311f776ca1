import t from 'tap'
import { retry } from '../../src/client/retry.ts'
import { NotSluice, TryAgain } from '../../src/client/server.ts'
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

t.test(
  'if the server asks for more than two minutes, retry gives up, or with tries without end waits two minutes',
  async (t) => {
    const clock = stopClock(t)
    const wait = (waitMs: number) => new TryAgain('no', { waitMs })
    await t.rejects(
      retry(() => Promise.reject(wait(120_001))),
      { message: 'no' },
    )
    const times: number[] = []
    const done = retry(
      async () => {
        times.push(performance.now())
        if (times.length <= 2) throw wait(times.length === 1 ? 300_000 : 120_000)
      },
      { tries: Number.POSITIVE_INFINITY },
    )
    for (let seconds = 0; seconds < 240; seconds += 60) await clock.tick(60_000)
    await done
    const [first = 0, ...later] = times
    t.same(
      later.map((time) => time - first),
      [120_000, 240_000],
    )
  },
)

t.test('a response that does not come from Sluice is final, unless tries are without end', async (t) => {
  const clock = stopClock(t)
  const foreign = new NotSluice('It answered 404', '. Specify another server')
  await t.rejects(
    retry(() => Promise.reject(foreign)),
    { message: 'It answered 404. Specify another server' },
  )
  const texts: string[] = []
  const done = retry(async () => (texts.length === 0 ? Promise.reject(foreign) : 'yes'), {
    tries: Number.POSITIVE_INFINITY,
    onWait: (text) => texts.push(text),
  })
  await clock.tick(500)
  t.equal(await done, 'yes')
  t.same(texts, ['It answered 404; trying again until it succeeds'])
})

t.test('another error is thrown at once, also with tries without end', async (t) => {
  for (const options of [{}, { tries: Number.POSITIVE_INFINITY }]) {
    let tries = 0
    await t.rejects(
      retry(async () => {
        tries++
        throw new Error('no')
      }, options),
      { message: 'no' },
    )
    t.equal(tries, 1)
  }
})

t.test('a stop ends the wait', async (t) => {
  stopClock(t)
  const stop = new AbortController()
  const done = retry(() => Promise.reject(new TryAgain('no')), { stop: stop.signal })
  await turn()
  stop.abort()
  await t.rejects(done, { code: 'ABORT_ERR' })
})

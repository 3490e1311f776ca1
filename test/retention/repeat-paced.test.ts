import t from 'tap'
import { repeatPaced } from '../../src/retention/repeat-paced.ts'
import { stopClock } from '../helpers/clock.ts'

const forever = new AbortController().signal
const sqlstate = (code: string) => Object.assign(new Error(code), { code })

t.test('steps are repeated until one says that it was the last', async (t) => {
  let steps = 0
  t.equal(await repeatPaced(forever, async () => ++steps < 4), true)
  t.equal(steps, 4)
})

t.test('after a long step the next one takes fewer rows, and after a short one more', async (t) => {
  const clock = stopClock(t)
  const rows: number[] = []
  const took = [400, 10, 10]
  await Promise.all([
    repeatPaced(forever, async (limit) => {
      rows.push(limit)
      clock.jump(took[rows.length - 1] ?? 0)
      return rows.length < 4
    }),
    // Ends the pauses.
    (async () => {
      while (rows.length < 4) await clock.tick(100)
    })(),
  ])
  const [first, second, third, fourth] = rows as [number, number, number, number]
  t.ok(second < first)
  t.equal(third, second * 2)
  t.equal(fourth, third * 2)
})

t.test('after a step there is a pause of several times its duration', async (t) => {
  const clock = stopClock(t)
  const begins: number[] = []
  const running = repeatPaced(forever, async () => {
    begins.push(performance.now())
    clock.jump(50)
    return begins.length < 2
  })
  while (begins.length < 2) await clock.tick(10)
  await running
  const [first, second] = begins as [number, number]
  t.ok(second - first >= 200, `${second - first} ms later`)
})

t.test('lock timeouts, statement timeouts, serialization failures and deadlocks are retried', async (t) => {
  for (const code of ['55P03', '57014', '40001', '40P01']) {
    let tries = 0
    await repeatPaced(forever, async () => {
      if (++tries < 5) throw sqlstate(code)
      return false
    })
    t.equal(tries, 5, code)
  }
})

t.test('five temporary failures in a row end it, and any other failure ends it at once', async (t) => {
  for (const [code, most] of [
    ['55P03', 5],
    ['42501', 1],
    ['57P01', 1],
    ['53100', 1],
  ] as const) {
    let tries = 0
    const failing = repeatPaced(forever, async () => {
      tries++
      throw sqlstate(code)
    })
    await t.rejects(failing, { code })
    t.equal(tries, most, code)
  }
})

t.test('a stop takes effect between two steps or in a pause, but never during a step', async (t) => {
  const stop = new AbortController()
  let ended = false
  const running = repeatPaced(stop.signal, async () => {
    stop.abort()
    await new Promise((resolve) => setImmediate(resolve))
    ended = true
    return true
  })
  t.equal(await running, false)
  t.ok(ended)

  const clock = stopClock(t)
  const again = new AbortController()
  const pausing = repeatPaced(again.signal, async () => {
    clock.jump(60_000)
    return true
  })
  await clock.tick(0)
  again.abort()
  t.equal(await pausing, false, 'the pause ends although the clock stands still')
})

import { mock } from 'node:test'
import t from 'tap'
import { settlesWithin } from '../../src/lib/settles-within.ts'
import { stopTimers } from '../helpers/clock.ts'

t.test('a promise that is fulfilled or rejected in time settles', async (t) => {
  stopTimers(t)
  for (const settle of ['resolve', 'reject'] as const) {
    const work = Promise.withResolvers<void>()
    const inTime = settlesWithin(work.promise, 1000)
    mock.timers.tick(999)
    work[settle]()
    t.equal(await inTime, true, settle)
    t.equal(await settlesWithin(work.promise, 1000), true, `${settle}, before it was asked`)
  }
})

t.test('a promise that is late does not settle in time, and can be asked again', async (t) => {
  stopTimers(t)
  const work = Promise.withResolvers<void>()
  for (let times = 0; times < 2; times++) {
    const inTime = settlesWithin(work.promise, 1000)
    mock.timers.tick(1000)
    t.equal(await inTime, false)
  }
  const inTime = settlesWithin(work.promise, 1000)
  work.resolve()
  t.equal(await inTime, true)
})

t.test('its timer is cleared, so that it does not keep the process running', async (t) => {
  const { clearTimeout } = globalThis
  const cleared = new Set<unknown>()
  t.intercept(globalThis, 'clearTimeout', {
    value: (timer: NodeJS.Timeout) => {
      cleared.add(timer)
      clearTimeout(timer)
    },
  })
  await settlesWithin(Promise.resolve(), 60_000)
  t.equal(cleared.size, 1)
})

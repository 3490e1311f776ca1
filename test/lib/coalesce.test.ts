import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { coalesce } from '../../src/lib/coalesce.ts'

t.test('the first call works at once, and all calls until the end of the pause work once more', async (t) => {
  const done: (() => void)[] = []
  const call = coalesce(() => new Promise((resolve) => done.push(resolve)), 1)
  // Timers of the same length fire in the order in which they were set, so this one fires after the pause.
  const pause = () => new Promise<void>((resolve) => setImmediate(() => resolve(sleep(1))))
  call()
  t.equal(done.length, 1, 'at once')
  call()
  call()
  t.equal(done.length, 1, 'not while it works')
  done[0]?.()
  await pause()
  t.equal(done.length, 2, 'once for both')
  done[1]?.()
  await pause()
  t.equal(done.length, 2, 'not again')
  call()
  t.equal(done.length, 3, 'at once again')
})

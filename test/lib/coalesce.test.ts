import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { coalesce } from '../../src/lib/coalesce.ts'

t.test('the first call works at once, and all calls until the end of the pause work once more', async (t) => {
  const done: (() => void)[] = []
  const call = coalesce(() => new Promise((resolve) => done.push(resolve)), 0)
  call()
  t.equal(done.length, 1, 'at once')
  call()
  call()
  t.equal(done.length, 1, 'not while it works')
  done[0]?.()
  await turn()
  call()
  while (done.length < 2) await turn()
  done[1]?.()
  for (let turns = 0; turns < 20; turns++) await turn()
  t.equal(done.length, 2, 'once for three calls')
  call()
  t.equal(done.length, 3, 'at once again')
})

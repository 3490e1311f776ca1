import { setImmediate as nextImmediate } from 'node:timers/promises'
import t from 'tap'
import { isTurnOver, waitForTurn } from '../../src/lib/turns.ts'
import { watchEventLoop } from '../helpers/turns.ts'

/** Keeps the processor busy for `times` steps of about a millisecond of wall time each. */
async function work(times: number): Promise<void> {
  for (let n = 0; n < times; n++) {
    if (isTurnOver()) await waitForTurn('a key')
    for (const until = performance.now() + 1; performance.now() < until; );
  }
}

t.test('long work is split into short turns, however much of it there is', async (t) => {
  const turns = watchEventLoop()
  t.teardown(() => turns.stop())
  await Promise.all(Array.from({ length: 20 }, () => work(20)))
  const longest = turns.takeLongest()
  t.ok(longest < 60, `the longest turn of 400 ms of work took ${longest} ms`)
})

t.test('the tasks of one key continue in the order in which they arrived, one per turn', async (t) => {
  let turn = 0
  let immediate = setImmediate(function count() {
    turn++
    immediate = setImmediate(count)
  })
  t.teardown(() => clearImmediate(immediate))
  const turns = await Promise.all([1, 2, 3].map(() => waitForTurn('a key').then(() => turn)))
  t.ok(
    turns.every((one, at) => at === 0 || one > (turns[at - 1] as number)),
    turns.join(),
  )
})

t.test('however many tasks of one key wait, another key gets the second turn', async (t) => {
  const turns: string[] = []
  const wait = (owner: string) => waitForTurn(owner).then(() => void turns.push(owner))
  const greedy = Array.from({ length: 100 }, () => wait('greedy'))
  await Promise.all([wait('modest'), wait('another')])
  t.same(turns, ['greedy', 'modest', 'another'])
  await Promise.all(greedy)
})

t.test('a turn that nobody waits for ends by itself', async (t) => {
  isTurnOver()
  for (const until = performance.now() + 12; performance.now() < until; );
  t.equal(isTurnOver(), true)
  await nextImmediate()
  await nextImmediate()
  t.equal(isTurnOver(), false)
})

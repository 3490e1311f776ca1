import t from 'tap'
import { latestOf } from '../../../src/plugins/metrics/latest.ts'
import { stopClock, turn } from '../../helpers/clock.ts'

/** A query that the test answers. */
function makeQuery() {
  const running: PromiseWithResolvers<string[]>[] = []
  return {
    running,
    select() {
      const query = Promise.withResolvers<string[]>()
      running.push(query)
      return query.promise
    },
    answer: (values: string[]) => running.at(-1)?.resolve(values),
    fail: () => running.at(-1)?.reject(new Error('away')),
  }
}

t.test('concurrent calls share a query, and the next one comes after the pause', async (t) => {
  const clock = stopClock(t)
  const query = makeQuery()
  const latest = latestOf(query.select, { pauseMs: 15_000, maxAgeMs: 60_000 })
  const all = Promise.all([latest(), latest(), latest()])
  query.answer(['a'])
  t.same(await all, [['a'], ['a'], ['a']])
  await clock.tick(14_999)
  t.same(await latest(), ['a'])
  t.equal(query.running.length, 1)
  await clock.tick(1)
  const next = latest()
  t.equal(query.running.length, 2)
  query.answer(['b'])
  t.same(await next, ['b'])
})

t.test('a query that takes longer than half a second is not waited for, and its values come later', async (t) => {
  const clock = stopClock(t)
  const query = makeQuery()
  const latest = latestOf(query.select, { pauseMs: 0, maxAgeMs: 60_000 })
  const first = latest()
  await clock.tick(500)
  t.equal(await first, undefined)
  query.answer(['a'])
  await turn()
  const next = latest()
  await clock.tick(500)
  t.same(await next, ['a'])
  t.equal(query.running.length, 2)
})

t.test('if queries fail, the last values are reported until they are too old', async (t) => {
  const clock = stopClock(t)
  const query = makeQuery()
  const latest = latestOf(query.select, { pauseMs: 15_000, maxAgeMs: 60_000 })
  const ask = (answer: () => void) => {
    const values = latest()
    answer()
    return values
  }
  t.same(await ask(() => query.answer(['a'])), ['a'])
  await clock.tick(60_000)
  t.same(await ask(query.fail), ['a'])
  await clock.tick(1)
  t.equal(await ask(query.fail), undefined)
  t.same(await ask(() => query.answer(['b'])), ['b'], 'after a failure, the next call tries again')
})

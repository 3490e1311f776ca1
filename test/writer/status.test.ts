import t from 'tap'
import { stopClock } from '../helpers/clock.ts'
import {
  CHECK_MS,
  commitAll,
  GRACE_MS,
  HOLD_MS,
  LONGER_THAN_PAUSE_MS,
  ROW_ERROR,
  setUp,
  UNAVAILABLE,
} from '../helpers/writer.ts'

t.test('a request that was cut in two is waiting once, until it is answered', async (t) => {
  const clock = stopClock(t)
  const { store, send, writer } = setUp(t)
  const results = [send(['a', 'b', 'c']), send(['d'])]
  ;(await store.next()).fail(ROW_ERROR)
  const half = await store.next()
  t.equal(writer.status.waiting, 2)
  await clock.tick(HOLD_MS + GRACE_MS + CHECK_MS)
  await Promise.all(results)
  t.match(writer.status, { waiting: 0, oldestMs: 0 })
  half.commit()
})

t.test('the oldest request has waited since it arrived, also if it was withdrawn', async (t) => {
  const clock = stopClock(t)
  const { store, submit, writer } = setUp(t)
  const { result, withdraw } = submit(['a'])
  const call = await store.next()
  await clock.tick(100)
  t.equal(writer.status.oldestMs, 100)
  withdraw()
  t.equal(writer.status.oldestMs, 100, 'withdrawn')
  writer.giveUp()
  t.equal(writer.status.oldestMs, 100, 'given up')
  call.commit()
  await result
})

t.test('onFlush gets the number of rows and requests of a committed flush', async (t) => {
  const flushes: { rows: number; requests: number }[] = []
  const { store, send } = setUp(t, { onFlush: ({ rows, requests }) => flushes.push({ rows, requests }) })
  commitAll(store)
  await Promise.all([send(['a', 'b']), send(['c'])])
  t.same(flushes, [{ rows: 3, requests: 2 }])
})

t.test('each failed try is one retry, and each piece of a split request has its part of the bytes', async (t) => {
  const clock = stopClock(t)
  let retries = 0
  const bytes: number[] = []
  const { store, send } = setUp(t, { onRetry: () => retries++, onFlush: (flush) => bytes.push(flush.bytes) })
  const result = send(['a', 'b', 'c', 'd'], { bytes: 8 })
  ;(await store.next()).fail(UNAVAILABLE)
  await clock.tick(LONGER_THAN_PAUSE_MS)
  ;(await store.next()).fail(ROW_ERROR)
  ;(await store.next()).commit()
  ;(await store.next()).commit()
  await result
  t.equal(retries, 1)
  t.same(bytes, [4, 4])
})

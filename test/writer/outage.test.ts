import t from 'tap'
import { stopClock, turn } from '../helpers/clock.ts'
import {
  CHECK_MS,
  DISK_FULL,
  failAll,
  GRACE_MS,
  guiltyRow,
  HOLD_MS,
  idsOf,
  LONGER_THAN_PAUSE_MS,
  problem,
  SESSION_ENDED,
  setUp,
  statuses,
  UNAVAILABLE,
} from '../helpers/writer.ts'

// — begin and end —

t.test('after an outage, the flush is sent again with its base, and all its requests are answered', async (t) => {
  const clock = stopClock(t)
  const { store, send, outages } = setUp(t)
  const results = [send(['a']), send(['b'])]
  const first = await store.next()
  first.fail(UNAVAILABLE)
  for (let tries = 0; tries < 5; tries++) {
    await clock.tick(LONGER_THAN_PAUSE_MS)
    const again = await store.next()
    t.equal(again.base, first.base)
    t.same(idsOf(again), ['a', 'b'])
    tries < 4 ? again.fail(UNAVAILABLE) : again.commit()
  }
  t.same((await Promise.all(results)).map(statuses), [['created'], ['created']])
  await turn()
  t.same(outages, ['begun', 'ended'], 'one call each')
})

t.test('when one flush is committed, the other holding flushes try again at once', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t, { maxRows: 1, concurrency: 2 })
  const results = [send(['a']), send(['b'])]
  const [a, b] = [await store.next(), await store.next()]
  a.fail(UNAVAILABLE)
  await turn()
  t.equal(store.calls.length, 2)
  b.commit()
  // No time passes, so only the commit of b can have woken it.
  const again = await store.next()
  t.same(idsOf(again), ['a'])
  again.commit()
  await Promise.all(results)
  await clock.tick(0)
})

t.test('an outage also ends when the database responds by rejecting a row', async (t) => {
  const clock = stopClock(t)
  const { store, send, outages } = setUp(t)
  const result = send([guiltyRow('a')])
  ;(await store.next()).fail(UNAVAILABLE)
  await clock.tick(LONGER_THAN_PAUSE_MS)
  ;(await store.next()).commit()
  t.same(statuses(await result), ['rejected'])
  await turn()
  t.same(outages, ['begun', 'ended'])
})

t.test('during an outage without requests, the writer pings the database until it responds', async (t) => {
  const clock = stopClock(t)
  let pings = 0
  const ping = async () => {
    if (++pings < 3) throw UNAVAILABLE
  }
  const { store, send, outages } = setUp(t, { holdMs: 0, ping })
  const result = send(['a'])
  ;(await store.next()).fail(UNAVAILABLE)
  await result
  for (let checks = 0; checks < 5; checks++) {
    t.same(outages, checks < 3 ? ['begun'] : ['begun', 'ended'])
    await clock.tick(CHECK_MS)
  }
  t.equal(pings, 3)
})

t.test('while a ping is running, no other is sent', async (t) => {
  const clock = stopClock(t)
  const { promise, resolve } = Promise.withResolvers<void>()
  let pings = 0
  const ping = () => {
    pings++
    return promise
  }
  const { store, send, outages } = setUp(t, { holdMs: 0, ping })
  const result = send(['a'])
  ;(await store.next()).fail(UNAVAILABLE)
  await result
  for (let checks = 0; checks < 3; checks++) await clock.tick(CHECK_MS)
  t.equal(pings, 1)
  resolve()
  await turn()
  t.same(outages, ['begun', 'ended'])
})

// — hold windows —

t.test('a request of a holding flush is answered when its hold window ends, even in a pause', async (t) => {
  const clock = stopClock(t)
  const { store, send, countAnswered } = setUp(t, { holdMs: 10 })
  const result = send(['a'])
  ;(await store.next()).fail(UNAVAILABLE)
  await clock.tick(10)
  ;(await store.next()).fail(UNAVAILABLE)
  await turn()
  t.equal(countAnswered(), 1)
  t.match(problem(await result), { status: 503 })
})

t.test('a request that runs out of time leaves its holding flush, and the others stay and are stored', async (t) => {
  const clock = stopClock(t)
  const { store, send, countAnswered } = setUp(t, { concurrency: 1 })
  void send(['blocker'])
  const blocker = await store.next()
  const early = send(['early'])
  await clock.tick(HOLD_MS / 2)
  const late = send(['late'])
  blocker.commit()
  ;(await store.next()).fail(UNAVAILABLE)
  await clock.tick(LONGER_THAN_PAUSE_MS)
  const second = await store.next()
  t.same(idsOf(second), ['early', 'late'])
  await clock.tick(HOLD_MS / 2)
  second.fail(UNAVAILABLE)
  t.match(problem(await early), { status: 503, code: 'database_unavailable', outcome: 'not_written' })
  t.equal(countAnswered(), 2)
  await clock.tick(LONGER_THAN_PAUSE_MS)
  const third = await store.next()
  t.same(idsOf(third), ['late'])
  third.commit()
  t.same(statuses(await late), ['created'])
})

t.test('when all requests of a flush have run out of time, it ends, and the next flush is written', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t, { concurrency: 1 })
  const results = [send(['a']), send(['b'])]
  const call = await store.next()
  await clock.tick(HOLD_MS)
  call.fail(UNAVAILABLE)
  for (const result of await Promise.all(results)) t.match(problem(result), { status: 503, outcome: 'not_written' })
  const after = send(['c'])
  ;(await store.next()).commit()
  t.same(statuses(await after), ['created'])
})

t.test('with a hold window of zero, a request is tried once', async (t) => {
  stopClock(t)
  const { store, send } = setUp(t, { holdMs: 0 })
  const result = send(['a'])
  ;(await store.next()).fail(UNAVAILABLE)
  t.match(problem(await result), { status: 503, outcome: 'not_written', headers: { 'retry-after': '1' } })
  t.equal(store.calls.length, 1)
})

t.test('a request whose try gets no response is answered GRACE_MS after its hold window', async (t) => {
  const clock = stopClock(t)
  const { store, send, countAnswered } = setUp(t, { concurrency: 1 })
  const [silent, queued] = [send(['silent']), send(['queued'], { strict: true })]
  const call = await store.next()
  await clock.tick(HOLD_MS + CHECK_MS)
  t.match(problem(await queued), { code: 'overloaded', outcome: 'not_written' })
  await clock.tick(GRACE_MS - CHECK_MS - 1)
  t.equal(countAnswered(), 1, 'the try may still give the exact result')
  await clock.tick(CHECK_MS)
  t.match(problem(await silent), { code: 'database_unavailable', outcome: 'unknown' })
  call.commit()
  const after = send(['after'])
  ;(await store.next()).commit()
  t.same(statuses(await after), ['created'], 'the flush does not block the next one forever')
})

t.test('a request that was answered late is not in the next try, but its neighbours are', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t, { concurrency: 1 })
  void send(['blocker'])
  const blocker = await store.next()
  const early = send(['early'])
  await clock.tick(HOLD_MS / 2)
  const late = send(['late'])
  blocker.commit()
  const call = await store.next()
  // Past GRACE_MS of `early`, not of `late`.
  await clock.tick(HOLD_MS / 2 + GRACE_MS + CHECK_MS)
  t.match(problem(await early), { outcome: 'unknown' })
  call.fail(SESSION_ENDED)
  await clock.tick(LONGER_THAN_PAUSE_MS)
  const again = await store.next()
  t.same(idsOf(again), ['late'])
  again.commit()
  t.same(statuses(await late), ['created'])
})

t.test('if a try may have been committed, the outcome is unknown, even if the next one is rolled back', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t)
  const result = send(['a'])
  ;(await store.next()).fail(SESSION_ENDED)
  await clock.tick(HOLD_MS)
  ;(await store.next()).fail(UNAVAILABLE)
  t.match(problem(await result), { status: 503, outcome: 'unknown', message: /may be stored.*stored once/ })
})

t.test('after a lost connection without an SQLSTATE, the outcome is also unknown', async (t) => {
  stopClock(t)
  const { store, send } = setUp(t, { holdMs: 0 })
  const result = send(['a'])
  ;(await store.next()).fail(new Error('Connection terminated unexpectedly'))
  t.match(problem(await result), { status: 503, outcome: 'unknown' })
})

t.test('a request that runs out of time in the queue gets `overloaded` if there is no outage', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t, { concurrency: 1 })
  void send(['a'])
  const call = await store.next()
  const late = send(['b'])
  await clock.tick(HOLD_MS + CHECK_MS)
  t.match(problem(await late), {
    code: 'overloaded',
    outcome: 'not_written',
    message: /not sent to the database in time/,
  })
  call.commit()
})

t.test('a request that runs out of time in the queue after an outage gets `overloaded`', async (t) => {
  const clock = stopClock(t)
  const { store, send, outages } = setUp(t, { concurrency: 1 })
  void send(['a'])
  ;(await store.next()).fail(UNAVAILABLE)
  await clock.tick(LONGER_THAN_PAUSE_MS)
  void send(['b'])
  ;(await store.next()).commit()
  const running = await store.next()
  const late = send(['c'])
  await clock.tick(HOLD_MS + CHECK_MS)
  t.match(problem(await late), { code: 'overloaded', outcome: 'not_written' })
  t.same(outages, ['begun', 'ended'])
  running.commit()
})

t.test('a request that runs out of time in the queue during an outage gets `database_unavailable`', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t, { concurrency: 1 })
  const held = send(['held'])
  const first = await store.next()
  const [queued, later] = [send(['queued']), send(['queued too'], { strict: true })]
  first.fail(UNAVAILABLE)
  await clock.tick(LONGER_THAN_PAUSE_MS)
  const second = await store.next()
  const fresh = send(['fresh'])
  await clock.tick(HOLD_MS - LONGER_THAN_PAUSE_MS + CHECK_MS)
  for (const result of [await queued, await later]) {
    t.match(problem(result), { code: 'database_unavailable', outcome: 'not_written' })
  }
  second.commit()
  t.same(statuses(await held), ['created'], 'the running try still counts')
  ;(await store.next()).commit()
  t.same(statuses(await fresh), ['created'])
  t.notOk(store.stored.has('shop queued'))
})

t.test('if the disk stays full, requests in the flush and in the queue get `storage_full`', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t, { concurrency: 1 })
  const flushed = send(['a'])
  const call = await store.next()
  const queued = send(['b'])
  call.fail(DISK_FULL)
  failAll(store, DISK_FULL)
  for (let waited = 0; waited <= HOLD_MS; waited += LONGER_THAN_PAUSE_MS) await clock.tick(LONGER_THAN_PAUSE_MS)
  for (const result of [await flushed, await queued])
    t.match(problem(result), { status: 507, code: 'storage_full', outcome: 'not_written' })
})

t.test('the last failure of an outage decides the error of the requests in the queue', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t, { concurrency: 1 })
  const held = send(['held'])
  const first = await store.next()
  const queued = send(['queued'])
  first.fail(UNAVAILABLE)
  await clock.tick(LONGER_THAN_PAUSE_MS)
  ;(await store.next()).fail(DISK_FULL)
  await clock.tick(LONGER_THAN_PAUSE_MS)
  const running = await store.next()
  await clock.tick(HOLD_MS)
  t.match(problem(await queued), { code: 'storage_full' })
  running.commit()
  await held
})

t.test('if the last try of an outage gets no response, its requests get the failure before it', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t)
  const result = send(['a'])
  ;(await store.next()).fail(DISK_FULL)
  await clock.tick(LONGER_THAN_PAUSE_MS)
  const running = await store.next()
  await clock.tick(HOLD_MS + GRACE_MS + CHECK_MS)
  t.match(problem(await result), { code: 'storage_full' })
  running.commit()
})

import t from 'tap'
import { stopClock, turn } from '../helpers/clock.ts'
import { makeRow } from '../helpers/rows.ts'
import {
  CHECK_MS,
  commitAll,
  GRACE_MS,
  guiltyRow,
  idsOf,
  LONGER_THAN_PAUSE_MS,
  positions,
  problem,
  REVOKED,
  ROW_ERROR,
  SESSION_ENDED,
  setUp,
  statuses,
  UNAVAILABLE,
} from '../helpers/writer.ts'

// — load decides the size of flushes —

t.test('a lone request is written at once, without a timer', async (t) => {
  const { store, send } = setUp(t)
  const result = send(['a'])
  await turn()
  t.equal(store.calls.length, 1)
  store.calls[0]?.commit()
  t.same(statuses(await result), ['created'])
})

t.test('requests that arrive in one iteration of the event loop share a flush', async (t) => {
  const { store, send } = setUp(t)
  const results = [send(['a']), send(['b', 'c']), send(['d'])]
  const call = await store.next()
  t.same(idsOf(call), ['a', 'b', 'c', 'd'])
  call.commit()
  t.same((await Promise.all(results)).map(statuses), [['created'], ['created', 'created'], ['created']])
})

t.test('requests that arrive while a flush is running form the next flush', async (t) => {
  const { store, send } = setUp(t, { concurrency: 1 })
  void send(['a'])
  const first = await store.next()
  for (const id of ['b', 'c', 'd']) {
    void send([id])
    await turn()
  }
  t.equal(store.calls.length, 1)
  first.commit()
  const second = await store.next()
  t.same(idsOf(second), ['b', 'c', 'd'])
  second.commit()
})

t.test('a flush starts beside a running one when it is as large', async (t) => {
  stopClock(t)
  const { store, send } = setUp(t)
  void send(['a', 'b', 'c'])
  await store.next()
  void send(['d'])
  await turn()
  t.equal(store.calls.length, 1, 'one row waits for more')
  void send(['e', 'f'])
  t.same(idsOf(await store.next()), ['d', 'e', 'f'])
  for (const call of store.calls) call.commit()
})

t.test('beside a running flush that is larger than the bound, a flush starts when it is full', async (t) => {
  stopClock(t)
  const { store, send } = setUp(t, { maxRows: 2 })
  void send(['a', 'b', 'c', 'd'])
  await store.next()
  void send(['e', 'f'])
  t.same(idsOf(await store.next()), ['e', 'f'])
  for (const call of store.calls) call.commit()
})

t.test('a smaller flush starts after GROW_MS, because the running one may be stuck', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t)
  void send(['a', 'b', 'c'])
  await store.next()
  const result = send(['d'])
  await clock.tick(9)
  t.equal(store.calls.length, 1)
  await clock.tick(1)
  t.equal(store.calls.length, 2)
  store.calls[1]?.commit()
  t.same(statuses(await result), ['created'])
  store.calls[0]?.commit()
})

t.test('no request is answered before its flush is committed', async (t) => {
  const { store, send, countAnswered } = setUp(t)
  void send(['a'])
  const call = await store.next()
  await turn()
  t.equal(countAnswered(), 0)
  call.commit()
  await turn()
  t.equal(countAnswered(), 1)
})

t.test('each request gets the outcomes of its own rows, in order', async (t) => {
  const { store, send } = setUp(t)
  commitAll(store)
  await send(['a', 'c'])
  const [first, second] = await Promise.all([send(['b', 'a', 'd']), send([makeRow({ id: 'c', data: '7' }), 'b'])])
  t.same(statuses(first), ['created', 'duplicate', 'created'])
  t.same(statuses(second), ['conflict', 'duplicate'])
  t.same(positions(second)[1], positions(first)[0], 'a duplicate has the position of the stored record')
})

// — bounds —

t.test('a flush takes no request that would exceed its bound on rows', async (t) => {
  const { store, send } = setUp(t, { maxRows: 4, concurrency: 8 })
  commitAll(store)
  await Promise.all([send(['a', 'b']), send(['c', 'd']), send(['e']), send(['f', 'g', 'h', 'i']), send(['j'])])
  t.same(store.calls.map(idsOf), [['a', 'b', 'c', 'd'], ['e'], ['f', 'g', 'h', 'i'], ['j']])
})

t.test('a flush takes no request that would exceed its bound on bytes', async (t) => {
  const { store, send } = setUp(t, { maxBytes: 100, concurrency: 8 })
  commitAll(store)
  await Promise.all([send(['a'], { bytes: 60 }), send(['b'], { bytes: 40 }), send(['c'], { bytes: 1 })])
  t.same(store.calls.map(idsOf), [['a', 'b'], ['c']])
})

t.test('a request that is larger than the bounds is written whole, and alone', async (t) => {
  const { store, send } = setUp(t, { maxRows: 2, maxBytes: 100, concurrency: 8 })
  commitAll(store)
  await Promise.all([send(['a']), send(['b', 'c', 'd']), send(['e'], { bytes: 500 }), send(['f'])])
  t.same(store.calls.map(idsOf), [['a'], ['b', 'c', 'd'], ['e'], ['f']])
})

t.test('no more flushes than allowed run at the same time, and the other requests wait', async (t) => {
  const { store, send } = setUp(t, { maxRows: 1, concurrency: 2 })
  for (const id of ['a', 'b', 'c', 'd']) void send([id])
  const [a, b] = [await store.next(), await store.next()]
  await turn()
  t.equal(store.calls.length, 2)
  b.commit()
  const c = await store.next()
  await turn()
  t.same(store.calls.map(idsOf), [['a'], ['b'], ['c']])
  a.commit()
  c.commit()
  const d = await store.next()
  d.commit()
})

// — API keys take turns —

t.test('however many strict requests one key sends, another key waits for at most one more of them', async (t) => {
  const { store, send } = setUp(t, { concurrency: 1 })
  for (let count = 0; count < 500; count++) void send(['a', 'b'], { key: 'greedy', strict: true })
  const first = await store.next()
  const modest = send(['c'], { key: 'modest' })
  const strict = send(['d', 'e'], { key: 'strict', strict: true })
  first.commit()
  const flushes: string[][] = []
  for (let count = 0; count < 3; count++) {
    const call = await store.next()
    flushes.push(idsOf(call))
    call.commit()
  }
  t.same(flushes, [['a', 'b'], ['c'], ['d', 'e']])
  t.same(statuses(await modest), ['created'])
  t.same(statuses(await strict), ['created', 'created'])
  commitAll(store)
})

// — withdrawn requests —

const { code, message, headers } = REVOKED
const notWritten = { code, message, headers, outcome: 'not_written' }
const unknown = { code, message, headers, outcome: 'unknown' }

t.test('a request withdrawn from the middle of the queue is answered at once, and never sent', async (t) => {
  const { store, submit, send, writer } = setUp(t, { concurrency: 1 })
  const first = send(['a'])
  const call = await store.next()
  const before = send(['b'])
  const { result, withdraw } = submit(['c'])
  const after = send(['d'])
  withdraw()
  withdraw()
  t.match(problem(await result), notWritten)
  t.equal(writer.status.waiting, 3)
  call.commit()
  const next = await store.next()
  t.same(idsOf(next), ['b', 'd'])
  next.commit()
  t.same((await Promise.all([first, before, after])).map(statuses), [['created'], ['created'], ['created']])
})

t.test('a request withdrawn while it is written gets the exact result if that is known within GRACE_MS', async (t) => {
  const clock = stopClock(t)
  const { store, submit, countAnswered } = setUp(t)
  const { result, withdraw } = submit(['a'])
  const call = await store.next()
  withdraw()
  await clock.tick(GRACE_MS - 1)
  t.equal(countAnswered(), 0)
  call.commit()
  t.same(statuses(await result), ['created'])
})

t.test('if the try of a withdrawn request takes longer than GRACE_MS, the outcome is unknown', async (t) => {
  const clock = stopClock(t)
  const { store, submit, countAnswered } = setUp(t)
  const { result, withdraw } = submit(['a'])
  const call = await store.next()
  withdraw()
  await clock.tick(GRACE_MS - 1)
  t.equal(countAnswered(), 0)
  await clock.tick(CHECK_MS)
  t.match(problem(await result), unknown)
  call.commit()
})

t.test('a withdrawn request is not sent again, but its neighbours are', async (t) => {
  const clock = stopClock(t)
  for (const [failure, outcome] of [
    [UNAVAILABLE, notWritten],
    [SESSION_ENDED, unknown],
  ] as const) {
    for (const when of ['during the try', 'after the try']) {
      const { store, submit, send } = setUp(t)
      const { result, withdraw } = submit(['a'])
      const neighbour = send(['b'])
      const call = await store.next()
      if (when === 'after the try') call.fail(failure)
      await turn()
      withdraw()
      if (when !== 'after the try') call.fail(failure)
      await clock.tick(LONGER_THAN_PAUSE_MS)
      t.match(problem(await result), outcome, when)
      const again = await store.next()
      t.same(idsOf(again), ['b'])
      again.commit()
      t.same(statuses(await neighbour), ['created'])
    }
  }
})

t.test('if a request is withdrawn during a split, its pieces that were not sent yet are not written', async (t) => {
  const { store, submit, send } = setUp(t, { concurrency: 1 })
  const cut = submit(['a', 'b', 'c'])
  const neighbour = send(['d'])
  ;(await store.next()).fail(ROW_ERROR)
  const first = await store.next()
  t.same(idsOf(first), ['a', 'b'])
  cut.withdraw()
  first.commit()
  const second = await store.next()
  t.same(idsOf(second), ['d'])
  second.commit()
  t.match(problem(await cut.result), unknown)
  t.same(statuses(await neighbour), ['created'])
})

t.test('a request that is withdrawn after it was answered is not answered again', async (t) => {
  const { store, submit } = setUp(t)
  commitAll(store)
  const { result, withdraw } = submit(['a'])
  t.same(statuses(await result), ['created'])
  withdraw()
})

// — close —

t.test('an idle writer closes at once, also a second time', async (t) => {
  const { writer } = setUp(t)
  await writer.close()
  await writer.close()
})

t.test('a closing writer writes and answers the waiting requests, and refuses new ones', async (t) => {
  const { store, send, writer, countAnswered } = setUp(t, { concurrency: 1 })
  const first = send(['a'])
  const call = await store.next()
  const queued = [send(['b']), send(['c'], { strict: true })]
  const closed = writer.close()
  t.match(problem(await send(['d'])), { status: 503, code: 'draining', outcome: 'not_written' })
  t.equal(countAnswered(), 1)
  commitAll(store)
  call.commit()
  await closed
  t.equal(countAnswered(), 4, 'it closes after the last request is answered')
  t.same((await Promise.all([first, ...queued])).map(statuses), [['created'], ['created'], ['created']])
})

t.test('a request that arrives in the same iteration of the event loop as the close is written', async (t) => {
  const { store, send, writer } = setUp(t)
  commitAll(store)
  const result = send(['a'])
  await writer.close()
  t.same(statuses(await result), ['created'])
})

t.test('a closing writer waits for a split to end', async (t) => {
  const { store, send, writer } = setUp(t)
  const result = send(['a', guiltyRow('b'), 'c'])
  const call = await store.next()
  const closed = writer.close()
  commitAll(store)
  call.commit()
  await closed
  t.same(statuses(await result), ['created', 'rejected', 'created'])
})

t.test('a writer that closes during an outage tries once more, answers 503, and ends', async (t) => {
  const clock = stopClock(t)
  const { store, send, writer } = setUp(t, { concurrency: 1 })
  const [held, queued] = [send(['held']), send(['queued'], { strict: true })]
  ;(await store.next()).fail(SESSION_ENDED)
  await turn()
  const closed = writer.close()
  await clock.tick(LONGER_THAN_PAUSE_MS)
  for (let calls = 0; calls < 2; calls++) (await store.next()).fail(UNAVAILABLE)
  await closed
  t.match(problem(await held), { status: 503, outcome: 'unknown' })
  t.match(problem(await queued), { status: 503, outcome: 'not_written' })
  t.equal(store.calls.length, 3)
})

t.test('giveUp ends the hold window of a request that is written', async (t) => {
  const clock = stopClock(t)
  const { store, send, writer } = setUp(t)
  const result = send(['a'])
  const call = await store.next()
  writer.giveUp()
  await clock.tick(GRACE_MS + CHECK_MS)
  t.match(problem(await result), { code: 'database_unavailable', outcome: 'unknown' })
  call.commit()
})

t.test('a writer closes even if all waiting requests run out of time before they are tried', async (t) => {
  const clock = stopClock(t)
  const { store, send, writer } = setUp(t, { holdMs: 0 })
  const first = send(['a'])
  ;(await store.next()).fail(UNAVAILABLE)
  t.match(problem(await first), { status: 503 })
  await turn()
  const second = send(['b'])
  const closed = writer.close()
  clock.jump(LONGER_THAN_PAUSE_MS)
  await closed
  t.match(problem(await second), { status: 503, outcome: 'not_written' })
})

t.test('a writer that is closed during an outage leaves no timer behind', async (t) => {
  const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length
  const before = timers()
  const { store, send, writer } = setUp(t)
  const result = send(['a'])
  const call = await store.next()
  const closed = writer.close()
  call.fail(UNAVAILABLE)
  await closed
  t.match(problem(await result), { status: 503 })
  t.equal(timers(), before)
})

// A common bug in batchers: the retry loop ends at the first failure, or never.
t.test('every request is answered through an outage, a recovery, a second outage and a close', async (t) => {
  const clock = stopClock(t)
  const { store, send, writer, outages, countAnswered } = setUp(t, { concurrency: 1 })
  const first = send(['a'])
  ;(await store.next()).fail(SESSION_ENDED)
  await clock.tick(LONGER_THAN_PAUSE_MS)
  ;(await store.next()).commit()
  t.same(statuses(await first), ['created'])
  await turn()
  t.same(outages, ['begun', 'ended'])

  const between = send(['b'])
  ;(await store.next()).commit()
  t.same(statuses(await between), ['created'])

  const [second, queued] = [send(['c']), send(['d'], { strict: true })]
  ;(await store.next()).fail(UNAVAILABLE)
  await turn()
  t.same(outages, ['begun', 'ended', 'begun'], 'each outage is reported')
  const closed = writer.close()
  await clock.tick(LONGER_THAN_PAUSE_MS)
  ;(await store.next()).commit()
  ;(await store.next()).fail(UNAVAILABLE)
  await closed
  t.same(statuses(await second), ['created'], 'the database was back in time for this one')
  t.match(problem(await queued), { status: 503 })
  t.equal(countAnswered(), 4)
})

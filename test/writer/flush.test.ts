import t from 'tap'
import { AfterCommitError } from '../../src/postgres/sqlstate.ts'
import { UnconfirmedError } from '../../src/postgres/unconfirmed.ts'
import { Flush } from '../../src/writer/flush.ts'
import { Outage } from '../../src/writer/outage.ts'
import { stopClock, turn } from '../helpers/clock.ts'
import { createMemoryStore, sqlError } from '../helpers/memory-store.ts'
import {
  commitAll,
  guiltyRow,
  HOLD_MS,
  idsOf,
  LONGER_THAN_PAUSE_MS,
  problem,
  ROW_ERROR,
  SESSION_ENDED,
  setUp,
  statuses,
  UNAVAILABLE,
} from '../helpers/writer.ts'

// — splitting until the row at fault is alone —

t.test('the row at fault in the middle of a batch is rejected, and its neighbours are stored', async (t) => {
  const { store, send } = setUp(t)
  commitAll(store)
  const result = await send(['a', 'b', 'c', guiltyRow('d'), 'e', 'f', 'g'])
  t.same(statuses(result), ['created', 'created', 'created', 'rejected', 'created', 'created', 'created'])
  t.match(result.outcomes[3], { status: 'rejected', sqlstate: '23514' })
  t.same(
    [...store.stored.keys()].sort(),
    ['a', 'b', 'c', 'e', 'f', 'g'].map((id) => `shop ${id}`),
  )
})

t.test('a row at fault does not affect the other requests of its flush', async (t) => {
  const { store, send } = setUp(t)
  commitAll(store)
  const results = await Promise.all([send(['a']), send(['b', guiltyRow('c'), 'd']), send(['e', 'f']), send(['g'])])
  t.same(results.map(statuses), [['created'], ['created', 'rejected', 'created'], ['created', 'created'], ['created']])
  t.equal(store.calls[0]?.rows.length, 7, 'at first, all are in one flush')
})

t.test('several rows at fault are found, wherever they are', async (t) => {
  const { store, send } = setUp(t)
  commitAll(store)
  const results = await Promise.all([
    send([guiltyRow('a'), 'b']),
    send(['c']),
    send([guiltyRow('d'), guiltyRow('e'), 'f', guiltyRow('g')]),
  ])
  t.same(results.map(statuses), [['rejected', 'created'], ['created'], ['rejected', 'rejected', 'created', 'rejected']])
})

t.test('a flush in which all rows are at fault is rejected row by row', async (t) => {
  const { store, send } = setUp(t)
  commitAll(store)
  t.same(statuses(await send([guiltyRow('a')])), ['rejected'])
  t.same(statuses(await send([guiltyRow('b'), guiltyRow('c'), guiltyRow('d')])), ['rejected', 'rejected', 'rejected'])
  t.equal(store.stored.size, 0)
})

t.test('a row at fault among 1,000 is found with at most 21 writes', async (t) => {
  const { store, send } = setUp(t)
  commitAll(store)
  const rows = Array.from({ length: 1000 }, (_, index) => (index === 617 ? guiltyRow('617') : `${index}`))
  const result = await send(rows)
  t.same(
    result.outcomes.flatMap(({ status }, index) => (status === 'rejected' ? [index] : [])),
    [617],
  )
  t.ok(store.calls.length <= 2 * Math.ceil(Math.log2(1000)) + 1, `${store.calls.length} writes`)
})

t.test('while a flush is split, its pieces are written one after the other', async (t) => {
  const { store, send } = setUp(t, { concurrency: 1 })
  void send(['a', guiltyRow('b')])
  ;(await store.next()).commit()
  const half = await store.next()
  void send(['c'])
  await turn()
  t.same(idsOf(half), ['a'])
  t.equal(store.calls.length, 2)
  half.commit()
  ;(await store.next()).commit()
  const after = await store.next()
  t.same(idsOf(after), ['c'])
  after.commit()
})

t.test('if an outage interrupts a split, the piece is sent again with its base, and the result is exact', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t)
  const result = send(['a', 'b', guiltyRow('c'), 'd'])
  ;(await store.next()).commit()
  const half = await store.next()
  half.commitAndFail(SESSION_ENDED)
  await clock.tick(LONGER_THAN_PAUSE_MS)
  const again = await store.next()
  t.equal(again.base, half.base)
  again.commit()
  commitAll(store)
  t.same(statuses(await result), ['created', 'created', 'rejected', 'created'])
})

t.test('if a piece cannot be written, only requests with rows in a committed piece are `unknown`', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t)
  const [cut, whole] = [send(['a', 'b', 'c']), send(['d'])]
  ;(await store.next()).fail(ROW_ERROR)
  const first = await store.next()
  t.same(idsOf(first), ['a', 'b'])
  first.commit()
  const second = await store.next()
  t.same(idsOf(second), ['c', 'd'])
  second.fail(UNAVAILABLE)
  await clock.tick(HOLD_MS)
  ;(await store.next()).fail(UNAVAILABLE)
  t.match(problem(await cut), { code: 'database_unavailable', outcome: 'unknown' })
  t.match(problem(await whole), { code: 'database_unavailable', outcome: 'not_written' })
})

t.test('a defect in one piece of a split does not affect the requests of the other', async (t) => {
  const { store, send } = setUp(t)
  const [first, second] = [send(['a', 'b']), send(['c', 'd'])]
  ;(await store.next()).fail(ROW_ERROR)
  ;(await store.next()).fail(sqlError('42P01'))
  ;(await store.next()).commit()
  t.match(problem(await first), { code: 'internal_error', outcome: 'not_written' })
  t.same(statuses(await second), ['created', 'created'])
})

t.test('after a defect in a piece, its request is answered once, and the rest of it is not written', async (t) => {
  const { store, send } = setUp(t)
  const result = send(['a', 'b'])
  ;(await store.next()).fail(ROW_ERROR)
  ;(await store.next()).fail(sqlError('42P01'))
  t.match(problem(await result), { code: 'internal_error', outcome: 'not_written' })
  await turn()
  t.equal(store.calls.length, 2)
})

t.test('during a split, another flush starts when it is as large as the current piece', async (t) => {
  stopClock(t)
  const { store, send } = setUp(t)
  const split = send(['a', 'b', 'c', 'd'])
  ;(await store.next()).fail(ROW_ERROR)
  const half = await store.next()
  const whole = send(['e', 'f'])
  const beside = await store.next()
  t.same(idsOf(beside), ['e', 'f'])
  beside.commit()
  half.commit()
  ;(await store.next()).commit()
  await Promise.all([split, whole])
})

// — strict requests —

t.test('a strict request has a flush of its own, between its neighbours', async (t) => {
  const { store, send } = setUp(t, { concurrency: 8 })
  commitAll(store)
  await Promise.all([send(['a']), send(['b', 'c'], { strict: true }), send(['d'], { strict: true }), send(['e'])])
  t.same(
    store.calls.map((call) => [call.strict, ...idsOf(call)]),
    [
      [false, 'a'],
      [true, 'b', 'c'],
      [true, 'd'],
      [false, 'e'],
    ],
  )
})

t.test('a strict request that cannot be stored whole gets outcomes that say why, and is not split', async (t) => {
  const { store, send } = setUp(t)
  commitAll(store)
  // Nothing is stored, so 'created' means nothing here (see writeStrict in data/record-store.ts).
  t.same(statuses(await send(['a', guiltyRow('b'), 'c'], { strict: true })), ['created', 'rejected', 'created'])
  t.equal(store.calls.length, 1)
  t.equal(store.stored.size, 0)
})

t.test('a strict request is not split, even if its write fails with a row error', async (t) => {
  const { store, send } = setUp(t)
  const result = send(['a', 'b'], { strict: true })
  const call = await store.next()
  // Such as a deferred constraint, which fails at the commit and names no row.
  call.fail(sqlError('23514'))
  commitAll(store)
  t.match(problem(await result), { status: 500, outcome: 'not_written' })
  t.equal(store.stored.size, 0, 'half of a strict request must not be stored')
})

// — tries and pauses —

t.test('if the connection breaks after the commit, the rows are reported as created, not as duplicate', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t)
  const result = send(['a', 'b'])
  ;(await store.next()).commitAndFail(SESSION_ENDED)
  await clock.tick(LONGER_THAN_PAUSE_MS)
  ;(await store.next()).commit()
  t.same(statuses(await result), ['created', 'created'])
})

t.test('a holding flush pauses between its tries, and the pauses grow up to a bound', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t)
  const result = send(['a'])
  ;(await store.next()).fail(UNAVAILABLE)
  const pauses: number[] = []
  for (let tries = 1; tries < 8; tries++) {
    let pause = 0
    for (; store.calls.length === tries; pause++) await clock.tick(1)
    pauses.push(pause)
    ;(await store.next()).fail(UNAVAILABLE)
  }
  for (const [index, pause] of pauses.entries()) {
    const most = Math.min(25 * 2 ** index, 500)
    t.ok(pause >= most / 2 && pause <= most + 1, `pause ${index + 1} is ${pause} ms of ${most}`)
  }
  commitAll(store)
  await clock.tick(LONGER_THAN_PAUSE_MS)
  await result
})

t.test('after a try that took longer than its pause, the next one starts at once', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t)
  const result = send(['a'])
  for (let tries = 0; tries < 8; tries++) {
    const call = await store.next()
    await clock.tick(LONGER_THAN_PAUSE_MS)
    call.fail(UNAVAILABLE)
    await turn()
    clock.jump(0)
  }
  // No time has passed since the last of them failed.
  ;(await store.next()).commit()
  t.same(statuses(await result), ['created'])
})

t.test('after a deadlock, the flush is sent again, and there is no outage', async (t) => {
  const clock = stopClock(t)
  const { store, send, outages } = setUp(t)
  const result = send(['a'])
  ;(await store.next()).fail(sqlError('40P01'))
  await clock.tick(LONGER_THAN_PAUSE_MS)
  ;(await store.next()).commit()
  t.same(statuses(await result), ['created'])
  await turn()
  t.same(outages, [])
})

t.test('a flush that is cancelled is sent again', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t)
  const result = send(['a'])
  ;(await store.next()).fail(sqlError('57014'))
  await clock.tick(LONGER_THAN_PAUSE_MS)
  ;(await store.next()).commit()
  t.same(statuses(await result), ['created'])
})

t.test('a flush that is cancelled while the writer closes is also sent again', async (t) => {
  const clock = stopClock(t)
  const { store, writer, send } = setUp(t)
  const result = send(['a'])
  const call = await store.next()
  const closed = writer.close()
  call.fail(sqlError('57014'))
  await clock.tick(LONGER_THAN_PAUSE_MS)
  ;(await store.next()).commit()
  t.same(statuses(await result), ['created'])
  await closed
})

// — failures after the INSERT —

t.test('if the comparison after an INSERT fails, the flush is sent again, and the result is exact', async (t) => {
  const clock = stopClock(t)
  for (const code of ['57014', '55P03', '40001']) {
    const { store, send, outages } = setUp(t)
    const result = send(['a', 'b'])
    const first = await store.next()
    first.commitAndFail(new AfterCommitError(sqlError(code)))
    await clock.tick(LONGER_THAN_PAUSE_MS)
    const again = await store.next()
    t.equal(again.base, first.base)
    again.commit()
    t.same(statuses(await result), ['created', 'created'], code)
    t.same(outages, [], 'there was no outage')
  }
})

t.test('if the comparison after an INSERT fails until the hold window ends, the outcome is unknown', async (t) => {
  const clock = stopClock(t)
  for (const failure of [sqlError('55P03'), new UnconfirmedError()]) {
    const { store, send } = setUp(t)
    const result = send(['a'])
    ;(await store.next()).commitAndFail(new AfterCommitError(failure))
    await clock.tick(HOLD_MS)
    // This try is rolled back. The first one was not.
    ;(await store.next()).fail(sqlError('55P03'))
    t.match(problem(await result), { code: 'database_unavailable', outcome: 'unknown', message: /did not finish/ })
  }
})

t.test('after a committed INSERT and a defect, the outcome is unknown', async (t) => {
  const { store, send } = setUp(t)
  const result = send(['a'])
  ;(await store.next()).commitAndFail(new AfterCommitError(sqlError('42501')))
  t.match(problem(await result), { code: 'internal_error', outcome: 'unknown' })
})

// If the flush were split, its stored rows would be duplicates, and a single row would be rejected.
t.test('after a committed INSERT and a row error, the outcome is unknown, and no row is sent again', async (t) => {
  for (const ids of [['a'], ['a', 'b']]) {
    const { store, send } = setUp(t)
    const result = send(ids)
    ;(await store.next()).commitAndFail(new AfterCommitError(ROW_ERROR))
    t.match(problem(await result), { code: 'internal_error', outcome: 'unknown' })
    t.equal(store.calls.length, 1)
  }
})

// — defects —

t.test('a defect fails the requests of its flush at once, with its cause, and no later request', async (t) => {
  const { store, send, outages } = setUp(t)
  const results = [send(['a']), send(['b', 'c'])]
  const cause = sqlError('42501')
  ;(await store.next()).fail(cause)
  for (const result of await Promise.all(results)) {
    t.match(problem(result), { status: 500, code: 'internal_error', outcome: 'not_written' })
    t.equal(problem(result).cause, cause)
  }
  t.equal(store.calls.length, 1)
  t.same(outages, [])
  const after = send(['d'])
  ;(await store.next()).commit()
  t.same(statuses(await after), ['created'])
})

t.test('an error in our own code is not taken for a broken connection', async (t) => {
  const { store, send } = setUp(t)
  const result = send(['a'])
  ;(await store.next()).fail(new TypeError('undefined is not a function'))
  t.match(problem(await result), { status: 500 })
})

t.test('if a defect follows a try that may have been committed, the outcome is unknown', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t)
  const result = send(['a'])
  ;(await store.next()).commitAndFail(SESSION_ENDED)
  await clock.tick(LONGER_THAN_PAUSE_MS)
  ;(await store.next()).fail(sqlError('42P01'))
  t.match(problem(await result), { status: 500, outcome: 'unknown' })
})

t.test('after a defect that PostgreSQL did not report, the outcome is unknown', async (t) => {
  const { store, send } = setUp(t)
  const result = send(['a'])
  ;(await store.next()).commitAndFail(new TypeError('a defect'))
  t.match(problem(await result), { code: 'internal_error', outcome: 'unknown' })
})

// — states —

t.test('a flush that has ended cannot change its state', async (t) => {
  const store = createMemoryStore()
  const outage = new Outage(store.ping, () => {})
  const flush = new Flush([], { store, outage, isClosing: () => false, onFlush: () => {}, onRetry: () => {} })
  await flush.run()
  t.equal(flush.state, 'ended')
  await t.rejects(flush.run(), { message: 'a flush that is ended cannot change from writing to ended' })
})

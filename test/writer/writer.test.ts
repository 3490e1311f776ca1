import t, { type Test } from 'tap'
import type { RowOutcome } from '../../src/data/record-store.ts'
import type { Row } from '../../src/postgres/row.ts'
import { AfterCommitError } from '../../src/postgres/sqlstate.ts'
import { UnconfirmedError } from '../../src/postgres/unconfirmed.ts'
import { Problem } from '../../src/problems.ts'
import { Writer, type WriterOptions } from '../../src/writer/writer.ts'
import { stopClock, turn } from '../helpers/clock.ts'
import { createMemoryStore, GUILTY, type MemoryStore, sqlError } from '../helpers/memory-store.ts'
import { makeRow } from '../helpers/rows.ts'

const HOLD_MS = 20_000
/** Longer than the longest pause between two tries. */
const A_WHILE = 1_000

/** Too many connections: the database is unavailable, and nothing was written. */
const UNAVAILABLE = sqlError('53300')
/** The reason with which the tests withdraw a request. */
const REVOKED = new Problem('unauthorized', 'The API key was revoked.', { headers: { 'www-authenticate': 'Bearer' } })
/** The session ended, perhaps after the commit. */
const SESSION_ENDED = sqlError('57P01')

// — load decides the size of flushes —

t.test('a lone request is written at once, without a timer', async (t) => {
  const { store, send } = setUp(t)
  const answer = send(['a'])
  await turn()
  t.equal(store.calls.length, 1)
  store.calls[0]?.commit()
  t.same(statuses(await answer), ['created'])
})

t.test('requests that arrive in one iteration of the event loop share a flush', async (t) => {
  const { store, send } = setUp(t)
  const answers = [send(['a']), send(['b', 'c']), send(['d'])]
  const call = await store.next()
  t.same(idsOf(call), ['a', 'b', 'c', 'd'])
  call.commit()
  t.same((await Promise.all(answers)).map(statuses), [['created'], ['created', 'created'], ['created']])
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
  const answer = send(['d'])
  await clock.tick(9)
  t.equal(store.calls.length, 1)
  await clock.tick(1)
  t.equal(store.calls.length, 2)
  store.calls[1]?.commit()
  t.same(statuses(await answer), ['created'])
  store.calls[0]?.commit()
})

t.test('no request is answered before its flush is committed', async (t) => {
  const { store, send, answered } = setUp(t)
  void send(['a'])
  const call = await store.next()
  await turn()
  t.equal(answered(), 0)
  call.commit()
  await turn()
  t.equal(answered(), 1)
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

t.test('onFlush gets the number of rows and requests of a committed flush', async (t) => {
  const flushes: { rows: number; requests: number }[] = []
  const { store, send } = setUp(t, { onFlush: ({ rows, requests }) => flushes.push({ rows, requests }) })
  commitAll(store)
  await Promise.all([send(['a', 'b']), send(['c'])])
  t.same(flushes, [{ rows: 3, requests: 2 }])
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

t.test('however many strict requests one key sends, the other keys have the turns after its next one', async (t) => {
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
  void commitAll(store)
})

t.test('a request that runs out of time in the queue gets `overloaded` if there is no outage', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t, { concurrency: 1 })
  void send(['a'])
  const call = await store.next()
  const late = send(['b'])
  await clock.tick(HOLD_MS + 500)
  t.match(problem(await late), {
    code: 'overloaded',
    outcome: 'not_written',
    message: /not sent to the database in time/,
  })
  call.commit()
})

// — strict —

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

t.test('a strict request that cannot be stored whole gets the outcomes that say why, and is not split', async (t) => {
  const { store, send } = setUp(t)
  commitAll(store)
  t.same(statuses(await send(['a', guilty('b'), 'c'], { strict: true })), ['created', 'rejected', 'created'])
  t.equal(store.calls.length, 1)
  t.equal(store.stored.size, 0)
})

t.test('a strict request is not split, even if the store fails it with a row error', async (t) => {
  const { store, send } = setUp(t)
  const answer = send(['a', 'b'], { strict: true })
  const call = await store.next()
  // Such as a deferred constraint, which fails at the commit and names no row.
  call.fail(sqlError('23514'))
  commitAll(store)
  t.match(problem(await answer), { status: 500, outcome: 'not_written' })
  t.equal(store.stored.size, 0, 'half of a strict request must not be stored')
})

// — splitting until the guilty row is alone —

t.test('the guilty row in the middle of a batch is rejected, and its neighbours are stored', async (t) => {
  const { store, send } = setUp(t)
  commitAll(store)
  const answer = await send(['a', 'b', 'c', guilty('d'), 'e', 'f', 'g'])
  t.same(statuses(answer), ['created', 'created', 'created', 'rejected', 'created', 'created', 'created'])
  t.match(answer.outcomes[3], { status: 'rejected', sqlstate: '23514' })
  t.same(
    [...store.stored.keys()].sort(),
    ['a', 'b', 'c', 'e', 'f', 'g'].map((id) => `shop ${id}`),
  )
})

t.test('a guilty row does not affect the other requests of its flush', async (t) => {
  const { store, send } = setUp(t)
  commitAll(store)
  const answers = await Promise.all([send(['a']), send(['b', guilty('c'), 'd']), send(['e', 'f']), send(['g'])])
  t.same(answers.map(statuses), [['created'], ['created', 'rejected', 'created'], ['created', 'created'], ['created']])
  t.equal(store.calls[0]?.rows.length, 7, 'at first, all are in one flush')
})

t.test('several guilty rows are found, wherever they are', async (t) => {
  const { store, send } = setUp(t)
  commitAll(store)
  const answers = await Promise.all([
    send([guilty('a'), 'b']),
    send(['c']),
    send([guilty('d'), guilty('e'), 'f', guilty('g')]),
  ])
  t.same(answers.map(statuses), [['rejected', 'created'], ['created'], ['rejected', 'rejected', 'created', 'rejected']])
})

t.test('a flush of guilty rows only is rejected row by row', async (t) => {
  const { store, send } = setUp(t)
  commitAll(store)
  t.same(statuses(await send([guilty('a')])), ['rejected'])
  t.same(statuses(await send([guilty('b'), guilty('c'), guilty('d')])), ['rejected', 'rejected', 'rejected'])
  t.equal(store.stored.size, 0)
})

t.test('a guilty row among 1,000 is found with at most 21 writes', async (t) => {
  const { store, send } = setUp(t)
  commitAll(store)
  const rows = Array.from({ length: 1000 }, (_, index) => (index === 617 ? guilty('617') : `${index}`))
  const answer = await send(rows)
  t.same(
    answer.outcomes.flatMap(({ status }, index) => (status === 'rejected' ? [index] : [])),
    [617],
  )
  t.ok(store.calls.length <= 2 * Math.ceil(Math.log2(1000)) + 1, `${store.calls.length} writes`)
})

t.test('while a flush is split, its pieces are written one after the other', async (t) => {
  const { store, send } = setUp(t, { concurrency: 1 })
  void send(['a', guilty('b')])
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
  const answer = send(['a', 'b', guilty('c'), 'd'])
  ;(await store.next()).commit()
  const half = await store.next()
  half.commitAndFail(SESSION_ENDED)
  await clock.tick(A_WHILE)
  const again = await store.next()
  t.equal(again.base, half.base)
  again.commit()
  commitAll(store)
  t.same(statuses(await answer), ['created', 'created', 'rejected', 'created'])
})

t.test('if a piece cannot be written, only requests with rows in a committed piece are `unknown`', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t)
  const [cut, whole] = [send(['a', 'b', 'c']), send(['d'])]
  ;(await store.next()).fail(sqlError('22P02'))
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
  ;(await store.next()).fail(sqlError('22P02'))
  ;(await store.next()).fail(sqlError('42P01'))
  ;(await store.next()).commit()
  t.match(problem(await first), { code: 'internal_error', outcome: 'not_written' })
  t.same(statuses(await second), ['created', 'created'])
})

t.test('after a defect in a piece, its request is answered once, and the rest of it is not written', async (t) => {
  const { store, send } = setUp(t)
  const answer = send(['a', 'b'])
  ;(await store.next()).fail(sqlError('22P02'))
  ;(await store.next()).fail(sqlError('42P01'))
  t.match(problem(await answer), { code: 'internal_error', outcome: 'not_written' })
  await turn()
  t.equal(store.calls.length, 2)
})

// — failures after the INSERT —

t.test('if the comparison after an INSERT fails, the flush is sent again, and the result is exact', async (t) => {
  const clock = stopClock(t)
  for (const code of ['57014', '55P03', '40001']) {
    const { store, send, outages } = setUp(t)
    const answer = send(['a', 'b'])
    const first = await store.next()
    first.commitAndFail(new AfterCommitError(sqlError(code)))
    await clock.tick(A_WHILE)
    const again = await store.next()
    t.equal(again.base, first.base)
    again.commit()
    t.same(statuses(await answer), ['created', 'created'], code)
    t.same(outages, [], 'there was no outage')
  }
})

t.test('if the comparison after an INSERT fails until the hold window ends, the outcome is unknown', async (t) => {
  const clock = stopClock(t)
  for (const failure of [sqlError('55P03'), new UnconfirmedError()]) {
    const { store, send } = setUp(t)
    const answer = send(['a'])
    ;(await store.next()).commitAndFail(new AfterCommitError(failure))
    await clock.tick(HOLD_MS)
    // This try is rolled back. The first one was not.
    ;(await store.next()).fail(sqlError('55P03'))
    t.match(problem(await answer), { code: 'database_unavailable', outcome: 'unknown', message: /did not finish/ })
  }
})

t.test('after a committed INSERT and a defect, the outcome is unknown', async (t) => {
  const { store, send } = setUp(t)
  const answer = send(['a'])
  ;(await store.next()).commitAndFail(new AfterCommitError(sqlError('42501')))
  t.match(problem(await answer), { code: 'internal_error', outcome: 'unknown' })
})

// If the flush were split, its stored rows would be duplicates, and a single row would be rejected.
t.test('after a committed INSERT and a row error, the outcome is unknown, and no row is sent again', async (t) => {
  for (const ids of [['a'], ['a', 'b']]) {
    const { store, send } = setUp(t)
    const answer = send(ids)
    ;(await store.next()).commitAndFail(new AfterCommitError(sqlError('22P02')))
    t.match(problem(await answer), { code: 'internal_error', outcome: 'unknown' })
    t.equal(store.calls.length, 1)
  }
})

t.test('after a defect that PostgreSQL did not report, the outcome is unknown', async (t) => {
  const { store, send } = setUp(t)
  const answer = send(['a'])
  ;(await store.next()).commitAndFail(new TypeError('a defect'))
  t.match(problem(await answer), { code: 'internal_error', outcome: 'unknown' })
})

t.test('a flush that is cancelled is sent again', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t)
  const answer = send(['a'])
  ;(await store.next()).fail(sqlError('57014'))
  await clock.tick(A_WHILE)
  ;(await store.next()).commit()
  t.same(statuses(await answer), ['created'])
})

t.test('a flush that is cancelled while the writer closes is sent again, too', async (t) => {
  const clock = stopClock(t)
  const { store, writer, send } = setUp(t)
  const answer = send(['a'])
  const call = await store.next()
  const closed = writer.close()
  call.fail(sqlError('57014'))
  await clock.tick(A_WHILE)
  ;(await store.next()).commit()
  t.same(statuses(await answer), ['created'])
  await closed
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
  const { answer, withdraw } = submit(['c'])
  const after = send(['d'])
  withdraw()
  withdraw()
  t.match(problem(await answer), notWritten)
  t.equal(writer.status.waiting, 3)
  call.commit()
  const next = await store.next()
  t.same(idsOf(next), ['b', 'd'])
  next.commit()
  t.same((await Promise.all([first, before, after])).map(statuses), [['created'], ['created'], ['created']])
})

t.test('a request withdrawn while it is written gets the exact result if that is known in time', async (t) => {
  const clock = stopClock(t)
  for (const commits of [true, false]) {
    const { store, submit, answered } = setUp(t)
    const { answer, withdraw } = submit(['a'])
    const call = await store.next()
    withdraw()
    await clock.tick(1_000)
    t.equal(answered(), 0)
    if (commits) call.commit()
    else await clock.tick(1_500)
    if (commits) t.same(statuses(await answer), ['created'])
    else t.match(problem(await answer), unknown)
    if (!commits) call.commit()
  }
})

t.test('a withdrawn request is not sent again, and its neighbours are', async (t) => {
  const clock = stopClock(t)
  for (const [failure, outcome] of [
    [UNAVAILABLE, notWritten],
    [SESSION_ENDED, unknown],
  ] as const) {
    for (const when of ['during the try', 'after the try']) {
      const { store, submit, send } = setUp(t)
      const { answer, withdraw } = submit(['a'])
      const neighbour = send(['b'])
      const call = await store.next()
      if (when === 'after the try') call.fail(failure)
      await turn()
      withdraw()
      if (when !== 'after the try') call.fail(failure)
      await clock.tick(A_WHILE)
      t.match(problem(await answer), outcome, when)
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
  ;(await store.next()).fail(sqlError('22P02'))
  const first = await store.next()
  t.same(idsOf(first), ['a', 'b'])
  cut.withdraw()
  first.commit()
  const second = await store.next()
  t.same(idsOf(second), ['d'])
  second.commit()
  t.match(problem(await cut.answer), unknown)
  t.same(statuses(await neighbour), ['created'])
})

t.test('a request that is withdrawn after its answer is not answered again', async (t) => {
  const { store, submit } = setUp(t)
  commitAll(store)
  const { answer, withdraw } = submit(['a'])
  t.same(statuses(await answer), ['created'])
  withdraw()
})

// — holding during an outage —

t.test('after an outage, the flush is sent again with its base, and all its requests are answered', async (t) => {
  const clock = stopClock(t)
  const { store, send, outages } = setUp(t)
  const answers = [send(['a']), send(['b'])]
  const first = await store.next()
  first.fail(UNAVAILABLE)
  for (let tries = 0; tries < 5; tries++) {
    await clock.tick(A_WHILE)
    const again = await store.next()
    t.equal(again.base, first.base)
    t.same(idsOf(again), ['a', 'b'])
    tries < 4 ? again.fail(UNAVAILABLE) : again.commit()
  }
  t.same((await Promise.all(answers)).map(statuses), [['created'], ['created']])
  await turn()
  t.same(outages, ['begun', 'ended'], 'one call each')
})

t.test('if the connection breaks after the commit, the rows are reported as created, not as duplicate', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t)
  const answer = send(['a', 'b'])
  ;(await store.next()).commitAndFail(SESSION_ENDED)
  await clock.tick(A_WHILE)
  ;(await store.next()).commit()
  t.same(statuses(await answer), ['created', 'created'])
})

t.test('a holding flush pauses between its tries, and the pauses grow up to a bound', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t)
  const answer = send(['a'])
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
  await clock.tick(A_WHILE)
  await answer
})

t.test('after a try that took longer than its pause, the next one starts at once', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t)
  const answer = send(['a'])
  for (let tries = 0; tries < 8; tries++) {
    const call = await store.next()
    await clock.tick(1_000)
    call.fail(UNAVAILABLE)
    await turn()
    clock.jump(0)
  }
  // No time has passed since the last of them failed.
  ;(await store.next()).commit()
  t.same(statuses(await answer), ['created'])
})

t.test('when one flush is committed, the other holding flushes try again at once', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t, { maxRows: 1, concurrency: 2 })
  const answers = [send(['a']), send(['b'])]
  const [a, b] = [await store.next(), await store.next()]
  a.fail(UNAVAILABLE)
  await turn()
  t.equal(store.calls.length, 2)
  b.commit()
  // No time passes, so only the commit of b can have woken it.
  const again = await store.next()
  t.same(idsOf(again), ['a'])
  again.commit()
  await Promise.all(answers)
  await clock.tick(0)
})

t.test('a request that runs out of time leaves its holding flush, and the others stay and are stored', async (t) => {
  const clock = stopClock(t)
  const { store, send, answered } = setUp(t, { concurrency: 1 })
  void send(['blocker'])
  const blocker = await store.next()
  const early = send(['early'])
  await clock.tick(HOLD_MS / 2)
  const late = send(['late'])
  blocker.commit()
  ;(await store.next()).fail(UNAVAILABLE)
  await clock.tick(A_WHILE)
  const second = await store.next()
  t.same(idsOf(second), ['early', 'late'])
  await clock.tick(HOLD_MS / 2)
  second.fail(UNAVAILABLE)
  t.match(problem(await early), { status: 503, code: 'database_unavailable', outcome: 'not_written' })
  t.equal(answered(), 2)
  await clock.tick(A_WHILE)
  const third = await store.next()
  t.same(idsOf(third), ['late'])
  third.commit()
  t.same(statuses(await late), ['created'])
})

t.test('a request of a holding flush is answered when its hold window ends, even in a pause', async (t) => {
  const clock = stopClock(t)
  const { store, send, answered } = setUp(t, { holdMs: 10 })
  const answer = send(['a'])
  ;(await store.next()).fail(UNAVAILABLE)
  await clock.tick(10)
  ;(await store.next()).fail(UNAVAILABLE)
  await turn()
  t.equal(answered(), 1)
  t.match(problem(await answer), { status: 503 })
})

t.test('when all requests of a flush have run out of time, it ends, and the next flush is written', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t, { concurrency: 1 })
  const answers = [send(['a']), send(['b'])]
  const call = await store.next()
  await clock.tick(HOLD_MS)
  call.fail(UNAVAILABLE)
  for (const answer of await Promise.all(answers)) t.match(problem(answer), { status: 503, outcome: 'not_written' })
  const after = send(['c'])
  ;(await store.next()).commit()
  t.same(statuses(await after), ['created'])
})

t.test('with a hold window of zero, a request is tried once', async (t) => {
  stopClock(t)
  const { store, send } = setUp(t, { holdMs: 0 })
  const answer = send(['a'])
  ;(await store.next()).fail(UNAVAILABLE)
  t.match(problem(await answer), { status: 503, outcome: 'not_written', headers: { 'retry-after': '1' } })
  t.equal(store.calls.length, 1)
})

t.test('a request that runs out of time in the queue during an outage gets `database_unavailable`', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t, { concurrency: 1 })
  const held = send(['held'])
  const first = await store.next()
  const [queued, later] = [send(['queued']), send(['queued too'], { strict: true })]
  first.fail(UNAVAILABLE)
  await clock.tick(A_WHILE)
  const second = await store.next()
  const fresh = send(['fresh'])
  await clock.tick(HOLD_MS - A_WHILE)
  await clock.tick(500)
  for (const answer of [await queued, await later]) {
    t.match(problem(answer), { code: 'database_unavailable', outcome: 'not_written' })
  }
  second.commit()
  t.same(statuses(await held), ['created'], 'the running try still counts')
  ;(await store.next()).commit()
  t.same(statuses(await fresh), ['created'])
  t.notOk(store.stored.has('shop queued'))
})

t.test('after a try that may be committed, the outcome is unknown, even if the next try is rolled back', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t)
  const answer = send(['a'])
  ;(await store.next()).fail(SESSION_ENDED)
  await clock.tick(HOLD_MS)
  ;(await store.next()).fail(UNAVAILABLE)
  t.match(problem(await answer), { status: 503, outcome: 'unknown', message: /may be stored.*safe/ })
})

t.test('after a lost connection without an SQLSTATE, the outcome is unknown too', async (t) => {
  stopClock(t)
  const { store, send } = setUp(t, { holdMs: 0 })
  const answer = send(['a'])
  ;(await store.next()).fail(new Error('Connection terminated unexpectedly'))
  t.match(problem(await answer), { status: 503, outcome: 'unknown' })
})

t.test('an outage also ends when the database responds by rejecting a row', async (t) => {
  const clock = stopClock(t)
  const { store, send, outages } = setUp(t)
  const answer = send([guilty('a')])
  ;(await store.next()).fail(UNAVAILABLE)
  await clock.tick(A_WHILE)
  ;(await store.next()).commit()
  t.same(statuses(await answer), ['rejected'])
  await turn()
  t.same(outages, ['begun', 'ended'])
})

t.test('after a deadlock, the flush is sent again, and there is no outage', async (t) => {
  const clock = stopClock(t)
  const { store, send, outages } = setUp(t)
  const answer = send(['a'])
  ;(await store.next()).fail(sqlError('40P01'))
  await clock.tick(A_WHILE)
  ;(await store.next()).commit()
  t.same(statuses(await answer), ['created'])
  await turn()
  t.same(outages, [])
})

t.test('a request whose try gets no response is answered GRACE_MS after its hold window', async (t) => {
  const clock = stopClock(t)
  const { store, send, answered } = setUp(t, { concurrency: 1 })
  const [silent, queued] = [send(['silent']), send(['queued'], { strict: true })]
  const call = await store.next()
  await clock.tick(HOLD_MS + 500)
  t.match(problem(await queued), { code: 'overloaded', outcome: 'not_written' })
  t.equal(answered(), 1, 'the try may still give the exact result')
  await clock.tick(2_000)
  t.match(problem(await silent), { code: 'database_unavailable', outcome: 'unknown' })
  call.commit()
  const after = send(['after'])
  ;(await store.next()).commit()
  t.same(statuses(await after), ['created'], 'the flush does not block the next one forever')
})

t.test('if the disk stays full, requests in the flush and in the queue get `storage_full`', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t, { concurrency: 1 })
  const flushed = send(['a'])
  const call = await store.next()
  const queued = send(['b'])
  call.fail(sqlError('53100'))
  const failing = (async () => {
    for (;;) (await store.next()).fail(sqlError('53100'))
  })()
  for (let waited = 0; waited <= HOLD_MS; waited += A_WHILE) await clock.tick(A_WHILE)
  for (const answer of [await flushed, await queued])
    t.match(problem(answer), { status: 507, code: 'storage_full', outcome: 'not_written' })
  void failing
})

t.test('a request that was answered late is not in the next try, and its neighbours are', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t, { concurrency: 1 })
  void send(['blocker'])
  const blocker = await store.next()
  const early = send(['early'])
  await clock.tick(10_000)
  const late = send(['late'])
  blocker.commit()
  const call = await store.next()
  await clock.tick(HOLD_MS - 7_000)
  t.match(problem(await early), { outcome: 'unknown' })
  call.fail(SESSION_ENDED)
  await clock.tick(A_WHILE)
  const again = await store.next()
  t.same(idsOf(again), ['late'])
  again.commit()
  t.same(statuses(await late), ['created'])
})

t.test('during an outage without requests, the writer pings the database until it responds', async (t) => {
  const clock = stopClock(t)
  let pings = 0
  const ping = async () => {
    if (++pings < 3) throw UNAVAILABLE
  }
  const { store, send, outages } = setUp(t, { holdMs: 0, ping })
  const answer = send(['a'])
  ;(await store.next()).fail(UNAVAILABLE)
  await answer
  for (let checks = 0; checks < 5; checks++) {
    t.same(outages, checks < 3 ? ['begun'] : ['begun', 'ended'])
    await clock.tick(500)
  }
  t.equal(pings, 3)
})

// — defects —

t.test('a defect fails the requests of its flush at once, with its cause, and no later request', async (t) => {
  const { store, send, outages } = setUp(t)
  const answers = [send(['a']), send(['b', 'c'])]
  const cause = sqlError('42501')
  ;(await store.next()).fail(cause)
  for (const answer of await Promise.all(answers)) {
    t.match(problem(answer), { status: 500, code: 'internal_error', outcome: 'not_written' })
    t.equal(problem(answer).cause, cause)
  }
  t.equal(store.calls.length, 1)
  t.same(outages, [])
  const after = send(['d'])
  ;(await store.next()).commit()
  t.same(statuses(await after), ['created'])
})

t.test('an error in our own code is not taken for a broken connection', async (t) => {
  const { store, send } = setUp(t)
  const answer = send(['a'])
  ;(await store.next()).fail(new TypeError('undefined is not a function'))
  t.match(problem(await answer), { status: 500 })
})

t.test('after a try that may have been committed and a defect, the outcome is unknown', async (t) => {
  const clock = stopClock(t)
  const { store, send } = setUp(t)
  const answer = send(['a'])
  ;(await store.next()).commitAndFail(SESSION_ENDED)
  await clock.tick(A_WHILE)
  ;(await store.next()).fail(sqlError('42P01'))
  t.match(problem(await answer), { status: 500, outcome: 'unknown' })
})

// — close —

t.test('an idle writer closes at once, also a second time', async (t) => {
  const { writer } = setUp(t)
  await writer.close()
  await writer.close()
})

t.test('a closing writer writes and answers the waiting requests, and refuses new ones', async (t) => {
  const { store, send, writer, answered } = setUp(t, { concurrency: 1 })
  const first = send(['a'])
  const call = await store.next()
  const queued = [send(['b']), send(['c'], { strict: true })]
  const closed = writer.close()
  t.match(problem(await send(['d'])), { status: 503, code: 'draining', outcome: 'not_written' })
  t.equal(answered(), 1)
  commitAll(store)
  call.commit()
  await closed
  t.equal(answered(), 4, 'it closes after the last answer')
  t.same((await Promise.all([first, ...queued])).map(statuses), [['created'], ['created'], ['created']])
})

t.test('a request that arrives in the same iteration of the event loop as the close is written', async (t) => {
  const { store, send, writer } = setUp(t)
  commitAll(store)
  const answer = send(['a'])
  await writer.close()
  t.same(statuses(await answer), ['created'])
})

t.test('a closing writer waits for a split to end', async (t) => {
  const { store, send, writer } = setUp(t)
  const answer = send(['a', guilty('b'), 'c'])
  const call = await store.next()
  const closed = writer.close()
  commitAll(store)
  call.commit()
  await closed
  t.same(statuses(await answer), ['created', 'rejected', 'created'])
})

t.test('a writer that closes during an outage tries once more, answers 503, and ends', async (t) => {
  const clock = stopClock(t)
  const { store, send, writer } = setUp(t, { concurrency: 1 })
  const [held, queued] = [send(['held']), send(['queued'], { strict: true })]
  ;(await store.next()).fail(SESSION_ENDED)
  await turn()
  const closed = writer.close()
  await clock.tick(A_WHILE)
  for (let answers = 0; answers < 2; answers++) (await store.next()).fail(UNAVAILABLE)
  await closed
  t.match(problem(await held), { status: 503, outcome: 'unknown' })
  t.match(problem(await queued), { status: 503, outcome: 'not_written' })
  t.equal(store.calls.length, 3)
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
  clock.jump(A_WHILE)
  await closed
  t.match(problem(await second), { status: 503, outcome: 'not_written' })
})

t.test('a writer that is closed during an outage leaves no timer behind', async (t) => {
  const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length
  const before = timers()
  const { store, send, writer } = setUp(t)
  const answer = send(['a'])
  const call = await store.next()
  const closed = writer.close()
  call.fail(UNAVAILABLE)
  await closed
  t.match(problem(await answer), { status: 503 })
  t.equal(timers(), before)
})

// Other batchers leave their retry loop at the first failure, or never.
t.test('through fail, recover, fail and close, every request is answered, and each outage is reported', async (t) => {
  const clock = stopClock(t)
  const { store, send, writer, outages, answered } = setUp(t, { concurrency: 1 })
  const first = send(['a'])
  ;(await store.next()).fail(SESSION_ENDED)
  await clock.tick(A_WHILE)
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
  t.same(outages, ['begun', 'ended', 'begun'])
  const closed = writer.close()
  await clock.tick(A_WHILE)
  ;(await store.next()).commit()
  ;(await store.next()).fail(UNAVAILABLE)
  await closed
  t.same(statuses(await second), ['created'], 'the database was back in time for this one')
  t.match(problem(await queued), { status: 503 })
  t.equal(answered(), 4)
})

// — helpers —

interface Answer {
  error: unknown
  outcomes: RowOutcome[]
}

/** A writer with a store whose calls the test ends. At the end of `t`, each request must have been answered exactly once. */
function setUp(t: Test, { ping, ...options }: Partial<WriterOptions> & { ping?: () => Promise<void> } = {}) {
  const store = createMemoryStore(undefined, ping)
  const outages: ('begun' | 'ended')[] = []
  const writer = new Writer(store, {
    maxRows: 1000,
    maxBytes: 1e6,
    concurrency: 2,
    holdMs: HOLD_MS,
    onOutage: (error) => outages.push(error === undefined ? 'ended' : 'begun'),
    ...options,
  })
  const timesAnswered: number[] = []
  t.teardown(async () => {
    await writer.close()
    await turn()
    if (timesAnswered.some((times) => times !== 1)) throw new Error(`not answered exactly once: ${timesAnswered}`)
  })

  const submit = (rows: (string | Row)[], { key = 'a key', strict = false, bytes = 1 } = {}) => {
    const number = timesAnswered.push(0) - 1
    const { promise: answer, resolve } = Promise.withResolvers<Answer>()
    const withdraw = writer.submit({ key, rows: rows.map(toRow), bytes, strict }, (error, outcomes) => {
      timesAnswered[number] = (timesAnswered[number] as number) + 1
      resolve({ error, outcomes })
    })
    return { answer, withdraw: () => withdraw(REVOKED) }
  }
  const send = (...request: Parameters<typeof submit>): Promise<Answer> => submit(...request).answer
  const answered = () => timesAnswered.filter((times) => times > 0).length
  return { store, writer, submit, send, outages, answered }
}

/** From now on every call commits as soon as it is made. */
async function commitAll(store: MemoryStore): Promise<never> {
  for (;;) (await store.next()).commit()
}

function toRow(row: string | Row): Row {
  return typeof row === 'string' ? makeRow({ id: row }) : row
}

function guilty(id: string): Row {
  return makeRow({ id, type: GUILTY })
}

function idsOf({ rows }: { rows: readonly Row[] }): string[] {
  return rows.map(({ id }) => id)
}

function positions({ outcomes }: Answer) {
  return outcomes.map((outcome) => 'position' in outcome && outcome.position)
}

/** The statuses of a request that was answered with outcomes. */
function statuses({ error, outcomes }: Answer): string[] {
  if (error !== undefined) throw error
  return outcomes.map(({ status }) => status)
}

function problem({ error }: Answer): Problem {
  if (!(error instanceof Problem)) throw new Error('a Problem was expected', { cause: error })
  return error
}

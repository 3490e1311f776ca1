import { setImmediate as nextIteration } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { FairQueue } from '../../src/writer/fair-queue.ts'
import type { WaitingRequest } from '../../src/writer/waiting-request.ts'
import { makeRow } from '../helpers/rows.ts'

const NO_LIMIT = 1e9

function makeRequest(key: string, { rows = 1, bytes = 1, strict = false, deadline = 0 } = {}): WaitingRequest {
  return {
    key,
    rows: Array.from({ length: rows }, () => makeRow()),
    bytes,
    strict,
    arrivedAt: 0,
    deadline,
    outcomeUnknown: false,
    outcomes: [],
    pendingRows: rows,
    trace: undefined,
    done: () => {},
  }
}

function queueOf(...requests: WaitingRequest[]): FairQueue {
  const queue = new FairQueue()
  for (const request of requests) queue.push(request)
  return queue
}

const keys = (requests: WaitingRequest[]) => requests.map(({ key }) => key).join('')

t.test('keys take turns, one request per turn, and the requests of a key keep their order', async (t) => {
  const a = [1, 2, 3].map((deadline) => makeRequest('a', { deadline }))
  const b = [4, 5].map((deadline) => makeRequest('b', { deadline }))
  const queue = queueOf(...a, ...b, makeRequest('c'))
  t.same([queue.length, queue.rows], [6, 6])
  t.equal(keys(queue.take(4, NO_LIMIT)), 'abca')
  const rest = queue.take(NO_LIMIT, NO_LIMIT)
  t.same(
    rest.map(({ deadline }) => deadline),
    [5, 3],
    'the next turn is that of b',
  )
  t.same([queue.length, queue.rows, queue.take(NO_LIMIT, NO_LIMIT)], [0, 0, []])
})

t.test('a request that does not fit is the first one that is taken next time', async (t) => {
  const queue = queueOf(makeRequest('small'), makeRequest('large', { rows: 10 }))
  for (let count = 0; count < 5; count++) queue.push(makeRequest('small'))
  t.equal(keys(queue.take(8, NO_LIMIT)), Array(6).fill('small').join(''))
  queue.push(makeRequest('small'))
  t.equal(keys(queue.take(8, NO_LIMIT)), 'large')
  t.equal(keys(queue.take(8, NO_LIMIT)), 'small')
  t.equal(keys(queueOf(makeRequest('a', { bytes: 60 }), makeRequest('b', { bytes: 60 })).take(NO_LIMIT, 100)), 'a')
})

t.test('a strict request is taken alone, in its turn', async (t) => {
  const queue = queueOf(
    makeRequest('a', { strict: true }),
    makeRequest('a', { strict: true }),
    makeRequest('b'),
    makeRequest('c'),
  )
  t.same(
    [1, 2, 3].map(() => keys(queue.take(NO_LIMIT, NO_LIMIT))),
    ['a', 'bc', 'a'],
  )
})

t.test('the expired requests of each key are taken, and the oldest request is among the heads', async (t) => {
  const queue = queueOf(
    ...[1, 5, 9].map((deadline) => makeRequest('a', { deadline })),
    ...[3, 4].map((deadline) => makeRequest('b', { deadline })),
  )
  t.equal(Math.min(...queue.heads.map(({ deadline }) => deadline)), 1)
  t.same(queue.takeExpired(0), [])
  t.equal(keys(queue.takeExpired(5)), 'aabb')
  t.same([queue.length, queue.rows, queue.heads.length], [1, 1, 1])
})

t.test('a request is removed once, wherever it is in the queue, and the others keep their order', async (t) => {
  const [first, second, third, alone] = [
    makeRequest('a'),
    makeRequest('a', { rows: 3 }),
    makeRequest('a'),
    makeRequest('b'),
  ]
  const queue = queueOf(first, second, third, alone)
  t.ok(queue.remove(second))
  t.notOk(queue.remove(second))
  t.ok(queue.remove(alone))
  t.same([queue.length, queue.rows, queue.heads], [2, 2, [first]])
  t.same(queue.take(1, NO_LIMIT), [first])
  t.notOk(queue.remove(first), 'already taken')
  t.same(queue.take(NO_LIMIT, NO_LIMIT), [third])
})

// Up to half of a key's requests stayed in memory until the others were taken, although the budget no longer counted them.
t.test('a request that was taken does not stay in memory, even if others of its key wait', async (t) => {
  const queue = queueOf(...Array.from({ length: 10 }, () => makeRequest('a')))
  const taken = new WeakRef(queue.take(1, 1)[0] as WaitingRequest)
  await nextIteration()
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
  t.equal(taken.deref(), undefined)
  t.equal(queue.length, 9)
})

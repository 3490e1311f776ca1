import t, { type Test } from 'tap'
import { streamCursor, streamCursors } from '../../src/feed/stream-cursor.ts'

/** Durable Streams 1.0, section 8.1. */
const EPOCH = Date.UTC(2024, 9, 9)
const INTERVAL_MS = 20_000

/** Stops the clock this long after the epoch of cursors, and makes every random number this one. */
function stopAt(t: Test, ms: number, random = 0) {
  t.intercept(Date, 'now', { value: () => EPOCH + ms })
  t.intercept(Math, 'random', { value: () => random })
}

t.test('without a cursor, it is the number of the current interval', async (t) => {
  for (const [ms, expected] of [
    [0, '0'],
    [INTERVAL_MS - 1, '0'],
    [INTERVAL_MS, '1'],
    [100 * INTERVAL_MS + 1, '100'],
  ] as const)
    await t.test(`${ms} ms`, async (t) => {
      stopAt(t, ms)
      t.equal(streamCursor(undefined), expected)
    })
})

t.test('a cursor of an earlier interval becomes the current one', async (t) => {
  stopAt(t, 100 * INTERVAL_MS, 0.999)
  for (const previous of ['0', '99', '0099']) t.equal(streamCursor(previous), '100')
})

t.test('a cursor of this interval or a later one becomes higher, by an hour at most', async (t) => {
  for (const [random, more] of [
    [0, 1],
    [0.5, 91],
    [0.999999, 180],
  ] as const)
    await t.test(`random number ${random}`, async (t) => {
      stopAt(t, 100 * INTERVAL_MS, random)
      for (const previous of [100, 101, 5000]) t.equal(streamCursor(String(previous)), String(previous + more))
    })
})

t.test('what is not a cursor counts as absent', async (t) => {
  stopAt(t, 100 * INTERVAL_MS)
  for (const previous of ['', '-1', '1e9', '200.5', ' 200', '0x200', 'NaN', 'now', '9'.repeat(16), '２００'])
    t.equal(streamCursor(previous), '100', previous)
})

t.test('cursors that a client repeats never stay the same', async (t) => {
  stopAt(t, 100 * INTERVAL_MS)
  let cursor = streamCursor(undefined)
  for (let times = 0; times < 100; times++) {
    const next = streamCursor(cursor)
    t.ok(Number(next) > Number(cursor))
    cursor = next
  }
})

t.test('the cursors of one response never go backwards, and follow the clock', async (t) => {
  let intervals = 100
  t.intercept(Date, 'now', { value: () => EPOCH + intervals * INTERVAL_MS })
  t.intercept(Math, 'random', { value: () => 0.5 })
  const [first, repeated] = [streamCursors(undefined), streamCursors('100')]
  t.same([first(), first()], ['100', '100'])
  // The client's cursor was not in the past, so its response is ahead of the clock.
  t.same([repeated(), repeated()], ['191', '191'])
  intervals = 150
  t.same([first(), repeated()], ['150', '191'])
  intervals = 200
  t.same([first(), repeated()], ['200', '200'])
  intervals = 120
  t.same([first(), repeated()], ['200', '200'], 'the clock was set back')
})

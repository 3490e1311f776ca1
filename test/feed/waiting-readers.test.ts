import fc from 'fast-check'
import t from 'tap'
import { type FeedFilter, toFilter } from '../../src/feed/feed-filter.ts'
import type { FeedRecord } from '../../src/feed/feed-record.ts'
import { WaitingReaders } from '../../src/feed/waiting-readers.ts'
import { turn } from '../helpers/clock.ts'
import { makeRecord, offsetOf, selecting } from '../helpers/feed.ts'
import { watchEventLoop } from '../helpers/turns.ts'

const ALL = selecting()

/** Adds a reader for each name. @returns which of them have been woken, with the offsets */
function add(waiting: WaitingReaders, filters: Record<string, FeedFilter>) {
  const woken: [name: string, upTo: string][] = []
  const leave: Record<string, () => void> = {}
  for (const [name, filter] of Object.entries(filters))
    leave[name] = waiting.add(filter, (upTo) => void woken.push([name, upTo]))
  return { woken, leave, names: () => woken.map(([name]) => name).sort() }
}

t.test('a record wakes the readers that it matches, and no others', async (t) => {
  const waiting = new WaitingReaders()
  const { names, woken } = add(waiting, {
    all: ALL,
    source: selecting({ source: 'shop' }),
    'other source': selecting({ source: 'bank' }),
    prefix: selecting({ sourcePrefix: 'sh' }),
    'other prefix': selecting({ sourcePrefix: 'shopping' }),
    type: selecting({ types: ['paid', 'placed'] }),
    'other type': selecting({ types: ['paid'] }),
    subject: selecting({ subject: 'x' }),
    'no subject': selecting({ subject: '' }),
    key: selecting({ allowedPrefixes: ['bank', 'shop'] }),
    'other key': selecting({ allowedPrefixes: ['bank'] }),
    'source and other type': selecting({ source: 'shop', types: ['paid'] }),
    'source of another key': selecting({ source: 'shop', allowedPrefixes: ['bank'] }),
  })
  await waiting.wakeFor([makeRecord(1, { source: 'shop', type: 'placed', subject: 'x' })], 'before')
  t.same(names(), ['all', 'key', 'prefix', 'source', 'subject', 'type'])
  t.ok(woken.every(([, upTo]) => upTo === 'before'))
})

t.test('a reader is woken once, however many records match', async (t) => {
  const waiting = new WaitingReaders()
  const { names } = add(waiting, { one: ALL, other: selecting({ source: 's' }) })
  await waiting.wakeFor([makeRecord(1), makeRecord(2), makeRecord(3)], '')
  t.same(names(), ['one', 'other'])
})

t.test('no record wakes nobody, and wakeAll wakes all', async (t) => {
  const waiting = new WaitingReaders()
  const { names } = add(waiting, { one: ALL, other: selecting({ source: 'none' }) })
  await waiting.wakeFor([], '')
  t.same(names(), [])
  waiting.wakeAll('')
  t.same(names(), ['one', 'other'])
})

t.test('a reader that has left is not woken; another one with the same filter is', async (t) => {
  const waiting = new WaitingReaders()
  const filter = () => selecting({ source: 's' })
  const { names, leave } = add(waiting, { one: filter(), other: filter(), third: selecting() })
  leave.one?.()
  leave.one?.()
  leave.third?.()
  await waiting.wakeFor([makeRecord(1)], '')
  waiting.wakeAll('')
  t.same(names(), ['other', 'other'])
})

t.test('a reader that waits again after its group was empty is woken', async (t) => {
  const waiting = new WaitingReaders()
  const first = add(waiting, { one: selecting({ source: 's' }) })
  first.leave.one?.()
  const second = add(waiting, { two: selecting({ source: 's' }) })
  // It has left already: the group with this filter is another one now.
  first.leave.one?.()
  await waiting.wakeFor([makeRecord(1)], '')
  t.same(second.names(), ['two'])
})

t.test('a reader that waits again while readers are woken is not woken by the same records', async (t) => {
  for (const wake of ['wakeFor', 'wakeAll'] as const) {
    const waiting = new WaitingReaders()
    let wakes = 0
    const wait = () => {
      const leave = waiting.add(ALL, () => {
        if (++wakes > 10) throw new Error('it is woken again and again')
        leave()
        wait()
      })
    }
    wait()
    wait()
    if (wake === 'wakeFor') await waiting.wakeFor([makeRecord(1)], '')
    else waiting.wakeAll('')
    t.equal(wakes, 2, wake)
  }
})

/** How often a record is compared with the filters of these readers. */
async function countComparisons(filters: FeedFilter[], record = makeRecord(1)): Promise<number> {
  const waiting = new WaitingReaders()
  let comparisons = 0
  for (const filter of filters) {
    const isMatch = (given: FeedRecord) => {
      comparisons++
      return filter.isMatch(given)
    }
    waiting.add({ ...filter, isMatch }, () => {})
  }
  await waiting.wakeFor([record], '')
  return comparisons
}

const hundred = <T>(make: (n: number) => T): T[] => Array.from({ length: 100 }, (_, n) => make(n))

t.test('readers with equal filters are compared with a record once', async (t) => {
  t.equal(await countComparisons(hundred(() => selecting({ subject: 'none' }))), 1)
  t.equal(await countComparisons(hundred((n) => selecting({ subject: `subject ${n}` }))), 100)
})

t.test('readers of other sources and types cost nothing, even if each has a hundred types', async (t) => {
  const typesOf = (reader: number) => hundred((n) => `type ${reader}.${n}`)
  t.equal(await countComparisons(hundred((n) => selecting({ source: `source ${n}` }))), 0)
  const readers = hundred((n) => selecting({ types: typesOf(n) }))
  t.equal(await countComparisons(readers), 0)
  for (const type of ['type 42.0', 'type 42.50', 'type 42.99'])
    t.equal(await countComparisons(readers, makeRecord(1, { type })), 1, type)
})

t.test('a reader of a hundred types is woken by each of them, and by none after it has left', async (t) => {
  const types = hundred((n) => `type ${n}`)
  const waiting = new WaitingReaders()
  const { woken, leave } = add(waiting, { one: selecting({ types: [...types, ...types] }) })
  for (const type of types) await waiting.wakeFor([makeRecord(1, { type })], '')
  t.equal(woken.length, 100)
  leave.one?.()
  for (const type of types) await waiting.wakeFor([makeRecord(1, { type })], '')
  t.equal(woken.length, 100)
})

t.test('a filter costs nothing after its last reader has left', async (t) => {
  const waiting = new WaitingReaders()
  const isMatch = () => t.fail('the record is compared')
  for (const filter of [ALL, selecting({ source: 's' }), selecting({ types: ['other', 't'] })])
    waiting.add({ ...filter, isMatch }, () => {})()
  await waiting.wakeFor([makeRecord(1)], '')
})

t.test('a reader learns the offset before the records, and that of the last one', async (t) => {
  const waiting = new WaitingReaders()
  const wakes: unknown[] = []
  waiting.add(ALL, (upTo, last) => void wakes.push([upTo, last]))
  await waiting.wakeFor([makeRecord(1), makeRecord(2)], offsetOf(0))
  waiting.wakeAll(offsetOf(2))
  t.same(wakes, [
    [offsetOf(0), offsetOf(2)],
    [offsetOf(2), undefined],
  ])
})

// One key with 300 readers of own filters delayed every request by seconds.
t.test('records are compared with many filters in short turns of the event loop', async (t) => {
  const waiting = new WaitingReaders()
  const slow = { ...selecting({ subject: 'none' }), isMatch: () => spend(1) }
  waiting.add(slow, () => {})
  const { names } = add(waiting, { one: selecting({ source: 'rare' }) })
  const turns = watchEventLoop()
  t.teardown(() => turns.stop())
  const records = hundred((n) => makeRecord(n, n === 99 ? { source: 'rare' } : {}))
  await waiting.wakeFor(records, '')
  await turn()
  const longest = turns.takeLongest()
  t.ok(longest < 60, `the longest turn of 100 ms of work took ${longest} ms`)
  t.same(names(), ['one'])
})

/** Keeps the processor busy. */
function spend(ms: number): boolean {
  for (const end = performance.now() + ms; performance.now() < end; );
  return false
}

t.test('for any filters and records, exactly the readers with a match are woken', async (t) => {
  const source = fc.constantFrom('a', 'a/1', 'b')
  const perhaps = <T>(value: fc.Arbitrary<T>) =>
    fc.oneof({ weight: 3, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: value })
  const filter: fc.Arbitrary<FeedFilter> = fc
    .record({
      source: perhaps(source),
      sourcePrefix: perhaps(fc.constantFrom('a', 'b', 'c')),
      types: perhaps(fc.uniqueArray(fc.constantFrom('x', 'y'), { maxLength: 2 })),
      subject: perhaps(fc.constantFrom('', 's')),
      allowedPrefixes: fc.uniqueArray(fc.constantFrom('a', 'b'), { maxLength: 2 }),
    })
    .map(toFilter)
  const record = fc.record({ source, type: fc.constantFrom('x', 'y'), subject: fc.constantFrom(null, '', 's') })
  let woken = 0
  await fc.assert(
    fc.asyncProperty(
      fc.array(filter, { minLength: 1 }),
      fc.array(record, { minLength: 1, maxLength: 3 }),
      async (filters, given) => {
        const waiting = new WaitingReaders()
        const { names } = add(waiting, Object.fromEntries(filters.map((filter, at) => [at, filter])))
        const records = given.map((fields, at) => makeRecord(at, fields))
        await waiting.wakeFor(records, '')
        const expected = filters.flatMap((filter, at) =>
          records.some((record) => filter.isMatch(record)) ? [String(at)] : [],
        )
        woken += expected.length
        if (String(names()) !== String(expected.sort())) throw new Error(`${names()} were woken, not ${expected}`)
      },
    ),
  )
  t.ok(woken > 50, `${woken} readers were woken`)
})

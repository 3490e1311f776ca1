import fc from 'fast-check'
import t from 'tap'
import { type FeedFilter, isMatch } from '../../src/feed/feed-record.ts'
import { WaitingReaders } from '../../src/feed/waiting-readers.ts'
import { makeRecord } from '../helpers/feed.ts'

const ALL: FeedFilter = { allowedPrefixes: [] }

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
    source: { ...ALL, source: 'shop' },
    'other source': { ...ALL, source: 'bank' },
    prefix: { ...ALL, sourcePrefix: 'sh' },
    'other prefix': { ...ALL, sourcePrefix: 'shopping' },
    type: { ...ALL, types: ['paid', 'placed'] },
    'other type': { ...ALL, types: ['paid'] },
    subject: { ...ALL, subject: 'x' },
    'no subject': { ...ALL, subject: '' },
    key: { allowedPrefixes: ['bank', 'shop'] },
    'other key': { allowedPrefixes: ['bank'] },
    'source and other type': { ...ALL, source: 'shop', types: ['paid'] },
    'source of another key': { source: 'shop', allowedPrefixes: ['bank'] },
  })
  waiting.wakeFor([makeRecord(1, { source: 'shop', type: 'placed', subject: 'x' })], 'before')
  t.same(names(), ['all', 'key', 'prefix', 'source', 'subject', 'type'])
  t.ok(woken.every(([, upTo]) => upTo === 'before'))
})

t.test('a reader is woken once, however many records match', async (t) => {
  const waiting = new WaitingReaders()
  const { names } = add(waiting, { one: ALL, other: { ...ALL, source: 's' } })
  waiting.wakeFor([makeRecord(1), makeRecord(2), makeRecord(3)], '')
  t.same(names(), ['one', 'other'])
})

t.test('no record wakes nobody, and wakeAll wakes all', async (t) => {
  const waiting = new WaitingReaders()
  const { names } = add(waiting, { one: ALL, other: { ...ALL, source: 'none' } })
  waiting.wakeFor([], '')
  t.same(names(), [])
  waiting.wakeAll('')
  t.same(names(), ['one', 'other'])
})

t.test('a reader that has left is not woken; another one with the same filter is', async (t) => {
  const waiting = new WaitingReaders()
  const filter = () => ({ ...ALL, source: 's' })
  const { names, leave } = add(waiting, { one: filter(), other: filter(), third: { ...ALL } })
  leave.one?.()
  leave.one?.()
  leave.third?.()
  waiting.wakeFor([makeRecord(1)], '')
  waiting.wakeAll('')
  t.same(names(), ['other', 'other'])
})

t.test('a reader that waits again after its group was empty is woken', async (t) => {
  const waiting = new WaitingReaders()
  const first = add(waiting, { one: { ...ALL, source: 's' } })
  first.leave.one?.()
  const second = add(waiting, { two: { ...ALL, source: 's' } })
  // It has left already: the group with this filter is another one now.
  first.leave.one?.()
  waiting.wakeFor([makeRecord(1)], '')
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
    if (wake === 'wakeFor') waiting.wakeFor([makeRecord(1)], '')
    else waiting.wakeAll('')
    t.equal(wakes, 2, wake)
  }
})

t.test('readers with equal filters are compared with a record once', async (t) => {
  const waiting = new WaitingReaders()
  let comparisons = 0
  for (let n = 0; n < 1000; n++) waiting.add({ ...ALL, types: ['none'] }, () => {})
  // Readers of other sources cost nothing.
  for (let n = 0; n < 1000; n++) waiting.add({ ...ALL, source: `source ${n}` }, () => {})
  const record = makeRecord(1)
  Object.defineProperty(record, 'type', {
    get() {
      comparisons++
      return 't'
    },
  })
  waiting.wakeFor([record], '')
  t.equal(comparisons, 1)
})

t.test('for any filters and records, exactly the readers with a match are woken', async (t) => {
  const source = fc.constantFrom('a', 'a/1', 'b')
  const perhaps = <T>(value: fc.Arbitrary<T>) =>
    fc.oneof({ weight: 3, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: value })
  const filter: fc.Arbitrary<FeedFilter> = fc.record({
    source: perhaps(source),
    sourcePrefix: perhaps(fc.constantFrom('a', 'b', 'c')),
    types: perhaps(fc.uniqueArray(fc.constantFrom('x', 'y'), { maxLength: 2 })),
    subject: perhaps(fc.constantFrom('', 's')),
    allowedPrefixes: fc.uniqueArray(fc.constantFrom('a', 'b'), { maxLength: 2 }),
  })
  const record = fc.record({ source, type: fc.constantFrom('x', 'y'), subject: fc.constantFrom(null, '', 's') })
  let woken = 0
  fc.assert(
    fc.property(
      fc.array(filter, { minLength: 1 }),
      fc.array(record, { minLength: 1, maxLength: 3 }),
      (filters, given) => {
        const waiting = new WaitingReaders()
        const { names } = add(waiting, Object.fromEntries(filters.map((filter, at) => [at, filter])))
        const records = given.map((fields, at) => makeRecord(at, fields))
        waiting.wakeFor(records, '')
        const expected = filters.flatMap((filter, at) =>
          records.some((record) => isMatch(filter, record)) ? [String(at)] : [],
        )
        woken += expected.length
        if (String(names()) !== String(expected.sort())) throw new Error(`${names()} were woken, not ${expected}`)
      },
    ),
  )
  t.ok(woken > 50, `${woken} readers were woken`)
})

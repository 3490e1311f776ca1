import t from 'tap'
import type { Entry } from '../../src/data/rollups.ts'
import { UnstoredCounts } from '../../src/stats/unstored-counts.ts'

const order = { source: 'shop', type: 'order' }

const sum = (entries: Entry[], of: 'duplicates' | 'rejected') => entries.reduce((total, entry) => total + entry[of], 0)

t.test('records are counted per minute, source and type, as far as these are known', (t) => {
  const before = Date.now()
  const counts = new UnstoredCounts()
  counts.add('duplicates', order)
  counts.add('duplicates', order)
  counts.add('rejected', order)
  counts.add('rejected', { type: 'order' })
  counts.add('rejected', { source: 'shop' })
  counts.add('rejected', {})
  counts.add('rejected', { source: 'shop', type: 'a\u0000b' })
  counts.add('rejected', { source: 'shop', type: '' })
  // The same characters, divided in another way.
  counts.add('rejected', { source: 'rshop', type: 'orde' })
  const taken = counts.take()
  const names = taken.map(({ source, type, duplicates, rejected }) => [source, type, duplicates, rejected])
  const all = new Set(names.map((name) => JSON.stringify(name)))
  for (const expected of [
    ['shop', 'order', 2, 1],
    ['', '', 0, 5],
    ['rshop', 'orde', 0, 1],
  ])
    t.ok(all.has(JSON.stringify(expected)), JSON.stringify(expected))
  t.equal(sum(taken, 'rejected'), 7)
  for (const { start } of taken) {
    t.match(start, /:00\.000Z$/)
    t.ok(Date.parse(start) > before - 60_000 && Date.parse(start) <= Date.now())
  }
  t.same(counts.take(), [], 'they are taken once')
  t.end()
})

t.test('what could not be stored is put back, and added to what came since', (t) => {
  const counts = new UnstoredCounts()
  counts.add('duplicates', order)
  const taken = counts.take()
  counts.add('duplicates', order)
  counts.restore(taken)
  counts.restore([{ ...order, start: '2026-01-31T12:00:00.000Z', duplicates: 0, rejected: 7 }])
  const entries = counts.take()
  t.equal(sum(entries, 'duplicates'), 2)
  t.ok(entries.some(({ start, rejected }) => start === '2026-01-31T12:00:00.000Z' && rejected === 7))
  t.end()
})

t.test('anybody may send any number of types: memory is limited, and nothing is left out of the total', (t) => {
  const counts = new UnstoredCounts()
  for (let n = 0; n < 5000; n++) {
    counts.add('rejected', { source: 's', type: `t${n}` })
    counts.add('rejected', { source: `s${n}`, type: '' })
  }
  const entries = counts.take()
  t.equal(sum(entries, 'rejected'), 10_000)
  // A minute may end meanwhile; each has one entry for all others.
  t.ok(entries.length <= 1000 + 2, `${entries.length} entries`)
  t.end()
})

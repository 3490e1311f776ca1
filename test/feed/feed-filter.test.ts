import t from 'tap'
import { toFilter } from '../../src/feed/feed-filter.ts'
import { makeRecord, selecting } from '../helpers/feed.ts'

// That a filter selects what PostgreSQL selects is tested in test/data/read-feed.test.ts.

t.test('filters have the same name if they are equal, and only then', async (t) => {
  const filters = () => [
    selecting(),
    selecting({ source: 'a' }),
    selecting({ sourcePrefix: 'a' }),
    selecting({ subject: 'a' }),
    selecting({ subject: '' }),
    selecting({ subject: 'null' }),
    selecting({ types: [] }),
    selecting({ types: ['a'] }),
    selecting({ types: ['a', 'b'] }),
    selecting({ types: ['a,b'] }),
    selecting({ types: ['a","b'] }),
    selecting({ allowedPrefixes: ['a'] }),
    selecting({ allowedPrefixes: ['a', 'b'] }),
  ]
  const names = filters().map(({ name }) => name)
  t.equal(new Set(names).size, names.length)
  t.same(
    filters().map(({ name }) => name),
    names,
  )
  t.equal(selecting({ source: undefined }).name, selecting().name)
})

/** A record that counts how often its source is compared. */
function countedRecord(source: string) {
  const compared = { times: 0 }
  const record = Object.defineProperty(makeRecord(1), 'source', {
    get() {
      compared.times++
      return source
    },
  })
  return { record, compared }
}

// One key with many readers, each with hundreds of prefixes, could keep the event loop busy.
t.test('whether a key may read a record is decided once for all of its readers', async (t) => {
  const { record, compared } = countedRecord('shop/1')
  // Each request makes its filter from the prefixes of the key.
  const readers = Array.from({ length: 100 }, (_, n) =>
    toFilter({ allowedPrefixes: ['bank', 'shop'], types: ['t', `type ${n}`] }),
  )
  t.ok(readers.every(({ isMatch }) => isMatch(record)))
  t.equal(compared.times, 1)
})

t.test('the decision for one key is not that for another', async (t) => {
  const [mine, other] = [selecting({ allowedPrefixes: ['shop'] }), selecting({ allowedPrefixes: ['bank'] })]
  const [shop, bank] = [makeRecord(1, { source: 'shop' }), makeRecord(2, { source: 'bank' })]
  for (let times = 0; times < 2; times++) {
    t.same([mine.isMatch(shop), mine.isMatch(bank)], [true, false])
    t.same([other.isMatch(shop), other.isMatch(bank)], [false, true])
    t.same([selecting().isMatch(shop), selecting().isMatch(bank)], [true, true], 'a key without prefixes')
  }
})

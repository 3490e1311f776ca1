import t from 'tap'
import { didYouMean, nearest } from '../../src/lib/nearest.ts'

const KNOWN = ['source', 'sourcePrefix', 'id', 'timeFrom', 'limit'] as const

t.test('the nearest name ignores case and separators, and allows one wrong letter in three', (t) => {
  for (const [given, expected] of [
    ['limt', 'limit'],
    ['LIMIT', 'limit'],
    ['limits', 'limit'],
    ['sorce', 'source'],
    ['source_prefix', 'sourcePrefix'],
    ['source-Prefx', 'sourcePrefix'],
    ['time.from', 'timeFrom'],
    ['ID', 'id'],
    ['since', 'timeFrom'],
    ['SINCE', 'timeFrom'],
    // An alias for a name that is not known is ignored.
    ['query', undefined],
    ['ids', undefined],
    ['constructor', undefined],
    ['x', undefined],
    ['', undefined],
    ['subject', undefined],
    ['limit'.repeat(100_000), undefined],
  ] as const)
    t.equal(
      nearest(given, KNOWN, { since: 'timeFrom', ids: 'jsonpath', query: 'jsonpath' }),
      expected,
      given.slice(0, 20),
    )
  t.equal(didYouMean('limt', KNOWN), ' Did you mean limit?')
  t.equal(didYouMean('xyzzy', KNOWN), '')
  t.end()
})

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { type FeedRecord, toFeedRecords } from '../../src/feed/feed-record.ts'
import { offsetOf } from '../helpers/feed.ts'

const lineOf = (n: number, subject?: string, data = '') => {
  const given = subject === undefined ? {} : { subject }
  const first = { specversion: '1.0', source: `s/${n}`, id: '"', type: 't\\', time: 'T', ...given }
  return `${JSON.stringify({ ...first, data, receivedAt: 'T', cursor: offsetOf(n) })}\n`
}

t.test('a record has what filters look at', async (t) => {
  const subjects = [undefined, '"', '\\', '\\"', 'a"\\\\"b', ',"subject":"x"', '\u2028é🦀']
  const lines = subjects.map((subject, n) => lineOf(n, subject))
  const expected = subjects.map((subject, n) => {
    return { offset: offsetOf(n), source: `s/${n}`, type: 't\\', subject: subject ?? null, line: lines[n] }
  })
  t.strictSame(toFeedRecords(lines.join('')), expected)
  t.same(toFeedRecords(''), [])
})

// The watcher could not read on after it, so no live reader got a record any more.
t.test('a subject may be as large as MAX_RECORD_BYTES allows', async (t) => {
  for (const unit of ['x', '"', '\\', 'é']) {
    const subject = unit.repeat(20_000_000)
    t.equal(toFeedRecords(lineOf(1, subject))[0]?.subject === subject, true, unit)
  }
})

t.test('a record, or its offset, does not keep the other records of its page in memory', async (t) => {
  const data = 'x'.repeat(1000)
  const read = () => toFeedRecords(Array.from({ length: 1000 }, (_, n) => lineOf(n, undefined, data)).join(''))
  for (const [name, part] of [
    ['a line', ([first]: FeedRecord[]) => first?.line],
    ['an offset', ([first]: FeedRecord[]) => first?.offset],
  ] as const) {
    const before = heapUsed()
    const kept = Array.from({ length: 20 }, () => part(read()))
    t.ok(heapUsed() - before < 5_000_000, name)
    t.equal(kept.length, 20)
  }
})

function heapUsed(): number {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
  return process.memoryUsage().heapUsed
}

import t from 'tap'
import { ingest } from '../../src/ingest/ingest.ts'
import { PLAIN, readJsonRecords } from '../../src/ingest/json-records.ts'
import { recordsBytes, textBytes } from '../../src/ingest/memory.ts'
import { RecordTotals } from '../../src/ingest/record-totals.ts'
import type { Problem } from '../../src/problems.ts'
import { createApp } from '../helpers/app.ts'

const { app } = await createApp(t)
const limits = { maxRecordBytes: 1_000_000, maxBatchRecords: 10_000 }
const PREFIXES = Array.from({ length: 100 }, (_, n) => `https://example.com/${n}/${'x'.repeat(60)}`)
const batchOf = (count: number, record: (n: number) => string) =>
  `[${Array.from({ length: count }, (_, n) => record(n))}]`
const record = (name: string) => (n: number) => `{"source":"s","type":"t","id":"${n}","${name}":[]}`

// After the commit, a response must not fail for lack of memory. Its memory is therefore reserved before the commit.
t.test('the memory reserved for the records of a batch covers the response', async (t) => {
  for (const [name, body, sourcePrefixes] of [
    ['elements that are not records', batchOf(10_000, () => '1'), []],
    ['empty records', batchOf(10_000, () => '{}'), []],
    ['created', batchOf(5000, (n) => `{"source":"created","type":"t","id":"${n}"}`), []],
    ['duplicates', batchOf(5000, (n) => `{"source":"created","type":"t","id":"${n}"}`), []],
    ['conflicts', batchOf(5000, (n) => `{"source":"created","type":"u","id":"${n}"}`), []],
    ['ids made by the server', batchOf(2000, () => '{"source":"s","type":"t"}'), []],
    [
      'sources that need escapes',
      batchOf(1000, (n) => `{"source":"${'"'.repeat(500).replaceAll('"', '\\"')}","type":"t","id":"${n}"}`),
      [],
    ],
    ['long names', batchOf(500, record('n'.repeat(3000))), []],
    ['names of control characters', batchOf(500, record('\\u0001'.repeat(500))), []],
    ['names that are longer in a JSON Pointer', batchOf(500, record('~'.repeat(3000))), []],
    [
      'a name that is longer in a JSON Pointer, and a valid record',
      `[${record('~'.repeat(900_000))(1)},{"source":"s","type":"t"}]`,
      [],
    ],
    ['names in other scripts', batchOf(500, record('\u20ac'.repeat(900))), []],
    ['sources that the key may not use', batchOf(2000, (n) => `{"source":"s","type":"t","id":"${n}"}`), PREFIXES],
  ] as const) {
    const defaultsFor = () => ({ makeId: () => crypto.randomUUID(), traceparent: undefined })
    const batch = await readJsonRecords(body, PLAIN, limits, defaultsFor, 'a key')
    const bytes = Buffer.byteLength(body)
    let reserved = textBytes(Buffer.from(body), false)
    const response = await ingest(app.writer, {
      batch,
      bytes,
      key: { id: 'k', sourcePrefixes } as never,
      preferences: { strict: false, minimal: false } as never,
      totals: new RecordTotals(),
      admit: (records) => {
        reserved += recordsBytes(records)
      },
    }).then(
      ({ body }) => body,
      (problem: Problem) => JSON.stringify(problem.toDocument('/v1/records', 'an id')),
    )
    const needed = Buffer.byteLength(response)
    t.ok(needed > 1000 && needed <= reserved, `${name}: ${needed} bytes, ${reserved} reserved`)
  }
})

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import type { Defaults } from '../../src/ingest/envelope.ts'
import { readRecordText } from '../../src/ingest/json-records.ts'
import { LineReport } from '../../src/ingest/line-report.ts'
import { RecordTotals } from '../../src/ingest/record-totals.ts'
import { codeForAll } from '../../src/ingest/results.ts'
import type { Fault } from '../../src/problems.ts'

const LONG = 'x'.repeat(900_000)
const limits = { maxRecordBytes: 1_000_000, maxBatchRecords: 1 }
const defaults: Defaults = { makeId: String, traceparent: undefined }
const refusalOf = async (more: string) =>
  (await readRecordText(`{"source":"s","type":"t",${more}}`, 0, limits, defaults, 'a key')) as Fault

// Pointers were listed in full, and a detail that quotes a number kept its whole line in memory. 400 rejected lines of nearly
// a megabyte each were enough for the process to run out of memory.
t.test('the report of rejected lines takes little memory, however long the lines are', async (t) => {
  for (const [name, more, rejection] of [
    ['an extension name', `"${LONG}":[]`, { code: 'wrong_type', pointer: '' }],
    [
      'a name in the data',
      `"data":{"a/b":{"${LONG}":"\\u0000"}}`,
      { code: 'unstorable_string', pointer: '/data/a~1b' },
    ],
    ['a number', `"data":["${LONG}",123456789e400000]`, { code: 'unstorable_number', pointer: '/data/1' }],
  ] as const) {
    const report = new LineReport(new RecordTotals())
    const before = heapUsed()
    for (let line = 1; line <= 20; line++) report.reject(line, await refusalOf(more))
    t.ok(heapUsed() - before < 5_000_000, name)
    const { rejections } = report.toJSON() as { rejections: { detail: string }[] }
    t.equal(rejections.length, 20)
    t.match(rejections[0], { line: 1, source: 's', ...rejection }, name)
    t.ok((rejections[0]?.detail.length as number) < 1100)
  }
})

t.test('the first 1,000 rejected lines are listed in order; of most others, not even the detail is read', (t) => {
  const report = new LineReport(new RecordTotals())
  let detailsRead = 0
  const reject = (line: number) =>
    report.reject(line, {
      code: 'required',
      get detail() {
        detailsRead++
        return `line ${line}`
      },
    })
  // Rejections by the database arrive late.
  for (let line = 10; line <= 5000; line++) reject(line)
  for (let line = 9; line >= 1; line--) reject(line)
  const { rejections, counts, rejectionsOmitted } = report.toJSON() as {
    rejections: { line: number }[]
    counts: { rejected: number }
    rejectionsOmitted: number
  }
  t.same(
    rejections.map(({ line }) => line),
    Array.from({ length: 1000 }, (_, index) => index + 1),
  )
  t.same([counts.rejected, rejectionsOmitted], [5000, 4000])
  t.ok(detailsRead < 3 * 2100, `${detailsRead} details were read`)
  t.end()
})

function heapUsed(): number {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
  return process.memoryUsage().heapUsed
}

t.test('the code for several rejections is their common code, the code of their common status, or `rejected`', (t) => {
  t.equal(codeForAll(new Set(['too_complex'])), 'too_complex')
  t.equal(codeForAll(new Set(['record_too_large'])), 'record_too_large')
  t.equal(codeForAll(new Set(['too_complex', 'record_too_large'])), 'record_too_large')
  t.equal(codeForAll(new Set(['required'])), 'rejected')
  t.equal(codeForAll(new Set(['conflict', 'required'])), 'rejected')
  t.end()
})

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import type { Defaults } from '../../src/ingest/envelope.ts'
import { readRecordText } from '../../src/ingest/json-records.ts'
import { LineReport } from '../../src/ingest/line-report.ts'
import { codeForAll, noCounts } from '../../src/ingest/results.ts'
import type { Fault } from '../../src/lib/problems.ts'

const LONG = 'x'.repeat(900_000)
const limits = { maxRecordBytes: 1_000_000, maxBatchRecords: 1 }
const defaults: Defaults = { makeId: String, traceparent: undefined }
const refusalOf = async (more: string) =>
  (await readRecordText(`{"source":"s","type":"t",${more}}`, 0, limits, defaults, 'a key')) as Fault

// A pointer was told in full, and a detail held on to the line that it was cut out of: of lines of nearly a megabyte,
// refused one after the other, 400 were enough to end the process for want of memory.
t.test('what is told of refused lines takes little memory, however long they are', async (t) => {
  for (const [name, more, rejection] of [
    ['a name of an extension', `"${LONG}":[]`, { code: 'wrong_type', pointer: '' }],
    [
      'a name in the data',
      `"data":{"a/b":{"${LONG}":"\\u0000"}}`,
      { code: 'unstorable_string', pointer: '/data/a~1b' },
    ],
    ['a number', `"data":["${LONG}",123456789e400000]`, { code: 'unstorable_number', pointer: '/data/1' }],
  ] as const) {
    const report = new LineReport(noCounts())
    const before = heapUsed()
    for (let line = 1; line <= 20; line++) report.reject(line, await refusalOf(more))
    t.ok(heapUsed() - before < 5_000_000, name)
    const { rejections } = report.toJSON() as { rejections: { detail: string }[] }
    t.equal(rejections.length, 20)
    t.match(rejections[0], { line: 1, source: 's', ...rejection }, name)
    t.ok((rejections[0]?.detail.length as number) < 1100)
  }
})

t.test('the first 1,000 refused lines are listed in order; behind them a refusal is counted and not even made', (t) => {
  const report = new LineReport(noCounts())
  let made = 0
  const refuse = (line: number) =>
    report.reject(line, {
      code: 'required',
      get detail() {
        made++
        return `line ${line}`
      },
    })
  // What the database refuses comes late.
  for (let line = 10; line <= 5000; line++) refuse(line)
  for (let line = 9; line >= 1; line--) refuse(line)
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
  t.ok(made < 3 * 2100, `${made} details were read`)
  t.end()
})

function heapUsed(): number {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
  return process.memoryUsage().heapUsed
}

t.test(
  'refused lines or records that have one code have it together; with several codes of one status, the usual one',
  (t) => {
    t.equal(codeForAll(new Set(['too_complex'])), 'too_complex')
    t.equal(codeForAll(new Set(['record_too_large'])), 'record_too_large')
    t.equal(codeForAll(new Set(['too_complex', 'record_too_large'])), 'record_too_large')
    t.equal(codeForAll(new Set(['required'])), 'rejected')
    t.equal(codeForAll(new Set(['conflict', 'required'])), 'rejected')
    t.end()
  },
)

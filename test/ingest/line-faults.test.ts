import t from 'tap'
import { tooLong } from '../../src/ingest/line-faults.ts'
import { LineCutter } from '../../src/lib/line-cutter.ts'

// Each long first line got the advice for an array, also a record of a file.
t.test('a first line that is too long is said to be an array only if it begins like one', (t) => {
  for (const [begin, isArray] of [
    ['[{', true],
    ['\ufeff  [{', true],
    ['{"a":[', false],
  ] as const) {
    const cutter = new LineCutter(10)
    const [piece] = [...cutter.push(Buffer.from(begin.padEnd(100, 'x'))), ...cutter.end()]
    if (piece === undefined || 'bytes' in piece) throw new Error('the line was not dropped')
    const { detail } = tooLong(piece, { maxRecordBytes: 10, maxBatchRecords: 1 })
    t.equal(detail.includes('If the body is a JSON array'), isArray, begin)
    t.notMatch(tooLong({ ...piece, line: 2 }, { maxRecordBytes: 10, maxBatchRecords: 1 }).detail, 'array')
  }
  t.end()
})

import fc from 'fast-check'
import t from 'tap'
import type { Defaults } from '../../src/ingest/envelope.ts'
import { type Batch, type JsonFormat, PLAIN, readJsonRecords, readRecordText } from '../../src/ingest/json-records.ts'
import { parseJson } from '../../src/lib/json/parse.ts'
import { MAX_DEPTH_WALKED } from '../../src/lib/json/walk.ts'
import { jsonText } from '../helpers/json-text.ts'

const limits = { maxRecordBytes: 1_048_576, maxBatchRecords: 10_000 }
const defaults: Defaults = { makeId: String, traceparent: undefined }
const read = (text: string): Promise<Batch> => readJsonRecords(text, PLAIN, limits, () => defaults, 'a key')
const refusalOf = (work: () => unknown): Promise<string> =>
  (async () => work())().then(
    () => 'none',
    (error) => `${error.code}: ${error.message}`,
  )

/** Larger than what is parsed in one step. */
const PADDING = `"${'x'.repeat(70_000)}"`

t.test('an invalid array gets the same error parsed element by element as parsed whole', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.oneof({ weight: 9, arbitrary: jsonText({ maxDepth: 3 }) }, fc.constant(PADDING)), { maxLength: 4 }),
      fc.nat(),
      fc.constantFrom('', ...'@x]}[{,:"1-\\nt|~'),
      fc.boolean(),
      async (texts, seed, char, insert) => {
        const json = `[${texts.join()}]`
        const at = seed % (json.length + 1)
        const text = json.slice(0, at) + char + json.slice(insert ? at : at + 1)
        if (!text.trim().startsWith('[')) return true
        return (await refusalOf(() => read(text))) === (await refusalOf(() => parseJson(text)))
      },
    ),
    { numRuns: 1500 },
  )
  t.pass('1500 arrays')
})

// There are two ways to read a record: a large one is walked, a small one is parsed.
t.test('a record is read in the same way, however large it is', async (t) => {
  const member = fc.tuple(
    fc.constantFrom('source', 'type', 'id', 'time', 'data', 'data', 'a', '\\u0061', 'data_base64', 'A'),
    fc.oneof(
      fc.constantFrom(
        '"x"',
        '"y"',
        'null',
        '1',
        '1.0',
        '"\\u0000"',
        '{"source":{}}',
        '[[]]',
        'true',
        '"2026-01-31T12:00:00Z"',
      ),
      jsonText({ unstorable: true, maxDepth: 2 }),
    ),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(member, { maxLength: 5 }), fc.boolean(), async (members, complete) => {
      const all = [
        ...(complete
          ? [
              ['source', '"s"'],
              ['type', '"t"'],
            ]
          : []),
        ...members,
      ]
      const text = (blanks: string) => `{${all.map(([name, value]) => `"${name}":${value}`).join()}${blanks}}`
      const [small, large] = [await read(text('')), await read(text(' '.repeat(70_000)))]
      const line = await readRecordText(text(' '.repeat(70_000)), 0, limits, defaults, 'a key')
      return (
        JSON.stringify(small) === JSON.stringify(large) && JSON.stringify(small.records[0]) === JSON.stringify(line)
      )
    }),
    { numRuns: 500 },
  )
  t.pass('500 records')
})

t.test('a record of any size may have 1,000 members, and one with more is rejected alone', async (t) => {
  const record = (count: number, name: string) =>
    `{"source":"s","type":"t",${Array.from({ length: count - 2 }, (_, n) => `"${name}${n}":1`).join()}}`
  for (const name of ['a', 'a'.repeat(100)]) {
    const { records } = await read(
      `[${record(1000, name)},${record(1001, name)},${record(9, name)},${record(300_000, 'a')}]`,
    )
    const refused = { source: 's', pointer: '', code: 'too_complex' }
    t.match(records, [{ source: 's', type: 't' }, { index: 1, ...refused }, { source: 's', type: 't' }, { index: 3 }])
  }
  t.match(
    await readRecordText(record(1001, 'a'), 6, limits, defaults, 'a key'),
    { index: 6, code: 'too_complex' },
    'as a line',
  )
})

t.test('records that are too large or too deep are rejected, and their neighbours are accepted', async (t) => {
  const deep = (levels: number) => `{"source":"s","type":"t","data":${'['.repeat(levels)}${']'.repeat(levels)}}`
  const large = `{"source":"s","type":"t","id":"large","data":[${'1,'.repeat(600_000)}1]}`
  const { records } = await read(`[${large},${deep(512)},${deep(513)},${deep(90_000)},${deep(1)}]`)
  t.match(records, [
    { code: 'record_too_large', source: 's', id: 'large' },
    { source: 's', data: /^\[/ },
    { code: 'too_deep', pointer: '/data' },
    { code: 'too_deep', pointer: '/data' },
    { source: 's', data: '[]' },
  ])
  t.match(
    await refusalOf(() => read(`[${deep(MAX_DEPTH_WALKED + 1)}]`)),
    'too_deep: ',
    'beyond a second limit, the body is refused',
  )
})

t.test('an array with more elements than a batch may have is refused, even if they are not records', async (t) => {
  t.equal((await read(`[${new Array(10_000).fill('1')}]`)).records.length, 10_000)
  t.match(await refusalOf(() => read(`[${new Array(10_001).fill('1')}]`)), 'too_many_records: ')
})

t.test('text after the value is invalid, at any size', async (t) => {
  for (const text of ['{}1', '[]]', '[1] ,', `{"a":${PADDING}}1`, `[${PADDING}]]`, `[${PADDING}]\n\n  {`]) {
    t.equal(await refusalOf(() => read(text)), await refusalOf(() => parseJson(text)), text.slice(0, 20))
    const line = text.replaceAll('\n', ' ')
    t.match(await readRecordText(line, 0, limits, defaults, 'a key'), { code: /invalid_json|wrong_type/ })
  }
})

// It said that specversion is missing: a walk does not keep what comes after 1,000 members.
t.test('an event with too many members is too complex, whatever comes last', async (t) => {
  const many = Array.from({ length: 1005 }, (_, n) => `"a${n}":1`).join()
  const event = (data: string) => `{${many},"specversion":"1.0","id":"1","source":"s","type":"t","data":${data}}`
  const format: JsonFormat = { top: 'object', required: ['specversion', 'id', 'source', 'type'] }
  for (const data of ['1', '"\\ud83d\\ude00"', PADDING]) {
    const { records } = await readJsonRecords(event(data), format, limits, () => defaults, 'a key')
    t.match(records, [{ code: 'too_complex' }])
  }
})

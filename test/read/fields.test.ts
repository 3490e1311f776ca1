import { parse } from 'csv-parse/sync'
import t from 'tap'
import type { Key } from '../../src/access/key.ts'
import { FairSemaphore } from '../../src/lib/fair-semaphore.ts'
import { connect as open } from '../../src/postgres/connect.ts'
import { CSV as CSV_FORMAT, NDJSON, openExport } from '../../src/read/export.ts'
import { MAX_FIELD_STEPS, MAX_FIELDS, MAX_FIELDS_LENGTH } from '../../src/read/fields.ts'
import type { Reader } from '../../src/read/reader.ts'
import { readPage } from '../../src/read/records.ts'
import { createApp } from '../helpers/app.ts'
import { isProblem } from '../helpers/problem.ts'

const { post, get, database } = await createApp(t)

for (const record of [
  '{"source":"f","type":"t","id":"1","time":"2026-01-31T12:00:00Z","batch":"b1","n":5,"data":{"total":12345678901234567890.10,"customer":{"name":"Ann, \\"A\\"","e.mail":"a@x","first name":"Ann"},"items":[{"sku":"x"},\n{"sku":"y"}]}}',
  '{"source":"f","type":"t","id":"2","subject":"s","data":{"total":null,"text":" \\u0041\\n=1+1","flag":true,"empty":"","007":7,"-1":8,"*":9,"":10,"\\u0061b":1.0e1}}',
  '{"source":"f","type":"t","id":"3","data":[1,[2,3.50]]}',
  '{"source":"f","type":"t","id":"4","data_base64":"AAH/"}',
  '{"source":"f","type":"t","id":"5","data":"text","datacontenttype":"text/plain"}',
])
  await post(record)

const CSV = { accept: 'text/csv' }
const LINES = { accept: 'application/x-ndjson' }
const at = (fields: string, more = '') => `/v1/records?source=f&order=asc&fields=${encodeURIComponent(fields)}${more}`
const lines = async (fields: string, more = '') => (await get(at(fields, more), LINES)).text.trimEnd().split('\n')
const rows = async (fields: string, more = '') => parse((await get(at(fields, more), CSV)).text)

t.test('a page and NDJSON have only these members, where a record has them, in this order', async (t) => {
  const fields =
    'data.total,id,subject,data.customer."e.mail",data.items.0.sku,extensions.n,extensions.batch,data.customer.name'
  const expected = [
    '{"data":{"total":12345678901234567890.10,"customer":{"e.mail":"a@x","name":"Ann, \\"A\\""},"items":{"0":{"sku":"x"}}},"id":"1","subject":null,"extensions":{"n":5,"batch":"b1"}}',
    ...['2', '3', '4', '5'].map(
      (id) =>
        `{"data":{"total":null,"customer":{"e.mail":null,"name":null},"items":{"0":{"sku":null}}},"id":"${id}","subject":${id === '2' ? '"s"' : 'null'},"extensions":{"n":null,"batch":null}}`,
    ),
  ]
  t.same(await lines(fields), expected)
  t.equal((await get(at(fields))).text, `{"records":[${expected}],"next":null}`)
  t.equal((await get(at(fields, '&count=true'))).text, `{"records":[${expected}],"next":null,"count":5}`)
})

t.test('a field can be any member of a record', async (t) => {
  const all =
    'specversion,source,id,type,time,subject,dataschema,datacontenttype,extensions,data,data_base64,receivedAt,cursor'
  const [one, , , four] = (await lines(all)).map((line) => JSON.parse(line))
  const { batch, n, ...rest } = (await get('/v1/records/f/1')).json
  const absent = { subject: null, dataschema: null, datacontenttype: null, data_base64: null }
  t.same(one, { ...absent, ...rest, extensions: { batch, n } })
  t.equal(Object.keys(one).join(), all)
  t.match(four, { data_base64: 'AAH/', data: null, extensions: null })
  const cells = await rows('id,data_base64,extensions,specversion')
  t.same(cells[1], ['1', '', '{"n": 5, "batch": "b1"}', '1.0'])
  t.same(cells[4], ['4', 'AAH/', '', '1.0'])
})

t.test('in CSV, each field is a column: text as it is, other values in JSON, null and absent ones empty', async (t) => {
  t.same(await rows('id,data.total,data.customer.name,data.text,data.flag,data.items'), [
    ['id', 'data.total', 'data.customer.name', 'data.text', 'data.flag', 'data.items'],
    ['1', '12345678901234567890.10', 'Ann, "A"', '', '', '[{"sku":"x"},\n{"sku":"y"}]'],
    ['2', '', '', ' A\n=1+1', 'true', ''],
    ['3', '', '', '', '', ''],
    ['4', '', '', '', '', ''],
    ['5', '', '', '', '', ''],
  ])
  t.same((await rows('data,id')).slice(3), [
    ['[1,[2,3.50]]', '3'],
    ['', '4'],
    ['text', '5'],
  ])
  const { text } = await get(at('id,data.empty,data.nothing', '&id=2'), CSV)
  t.equal(text, 'id,data.empty,data.nothing\r\n2,"",\r\n', 'empty text differs from nothing')
})

t.test('a single column has no empty lines, which readers skip', async (t) => {
  t.equal((await get(at('data.flag'), CSV)).text, 'data.flag\r\n""\r\ntrue\r\n""\r\n""\r\n""\r\n')
})

t.test(
  'a name with other characters is written as in JSON, and white space between names does not count',
  async (t) => {
    const names = String.raw`data."*", data."" ,data.customer.first name,data.ab,data."\u002d1","id"`
    t.same(await rows(names, '&id=2'), [
      ['data."*"', 'data.""', 'data.customer."first name"', 'data.ab', 'data.-1', 'id'],
      ['9', '10', '', '1.0e1', '8', '2'],
    ])
    t.same((await rows(names, '&id=1'))[1]?.[2], 'Ann')
  },
)

t.test('a number is a position in an array or a name, and in other spellings only a name', async (t) => {
  t.same(await rows('data.1,data.007,data.-1,data.01,data.+1', '&id=3'), [
    ['data.1', 'data.007', 'data.-1', 'data.01', 'data.+1'],
    ['[2,3.50]', '', '', '', ''],
  ])
  t.same((await rows('data.007,data.-1', '&id=2'))[1], ['7', '8'])
  t.same((await rows('data.1.1,data.1.00,data."1 ".1', '&id=3'))[1], ['3.50', '', ''])
})

t.test('what is not a field, or is one twice, is refused, and the message says what to write', async (t) => {
  const many = Array.from({ length: MAX_FIELDS }, (_, n) => `data.${n}`)
  t.equal((await get(at(`${many}`))).status, 200)
  for (const [fields, why] of [
    ['', /empty/],
    [
      'sorce',
      /"sorce", which is not a field\. Did you mean source\? A member of the data is data\.sorce, an extension attribute is extensions\.sorce\. The fields are spec/,
    ],
    ['total', /A member of the data is data\.total/],
    ['id.x', /only data and extensions have members/],
    ['extensions.a.b', /no members/],
    ['id,,time', /cannot be read at character 4/],
    ['id, ,time', /an empty name/],
    [',', /cannot be read at character 1/],
    ['id,', /cannot be read at its end: write names with a comma between them, such as id,data\.total\.$/],
    ['.', /cannot be read at character 1 .* such as id,data\.total\.$/],
    ['total[0]', /character 6 .* Write data\.total\.0\.$/],
    ['data.', /cannot be read at its end/],
    ['data."a', /cannot be read at character 6 \("\\"a"\)/],
    ['data.a"b"', /cannot be read at character 7/],
    ['data."a"b', /cannot be read at character 9/],
    ['id,data..x', /cannot be read at character 9 .* Write data\.x\.$/],
    ['.total', /cannot be read at character 1 .* Write data\.total\.$/],
    ['data[0].x', /cannot be read at character 5 .* Write data\.0\.x\.$/],
    // These were fields that no record has.
    ['id,data.items[0].sku,time', /cannot be read at character 14 .* Write data\.items\.0\.sku\.$/],
    ['data.items[*].sku', /character 11 .* Write data\.items\.0\.sku\.$/],
    ['data.items[].sku', /character 11 .* Write data\.items\.0\.sku\.$/],
    ["data.'e.mail'", /character 6 .* Write data\."e\.mail"\.$/],
    ["data['a']", /character 5 .* Write data\."a"\.$/],
    ["data.it's", /character 8 .* A name with quotes or brackets is written as in JSON/],
    // As in other languages.
    ['$.total', /not a field\. Write data\.total\. The fields/],
    ['$', /not a field\. Write data\. The fields/],
    ['$.data.total', /not a field\. Write data\.total\. The fields/],
    ['Data.total', /not a field\. Write data\.total\. The fields/],
    ['received_at', /not a field\. Write receivedAt\. The fields/],
    ['data->>total', /not a field\. Write data\.total\. The fields/],
    ["data->'a'->>'b'", /Write data\."a"\."b"\.$/],
    ['data/total', /not a field\. Write data\.total\. The fields/],
    ['/data/total', /not a field\. Write data\.total\. The fields/],
    ['data."\n"', /contains "\\"\\n\\"", which is not a string in JSON/],
    [`data.${'x'.repeat(100)},data.${'x'.repeat(100)}`, /contains "data\.x{54}…" twice/],
    ['data."\\q"', /not a string in JSON/],
    ['data."\\ud800"', /no record can contain/],
    ['data."\\u0000"', /no record can contain/],
    ['data.*', /write the name of each member\. A member called \* is written "\*"/],
    [`${many},id`, /at most 100 names\. It has 101/],
    [`data${'.a'.repeat(MAX_FIELD_STEPS)}`, /a name of 33 steps, and at most 32/],
    [`data.${'x'.repeat(MAX_FIELDS_LENGTH)}`, /at most 4,096 characters\. It has 4,101/],
    // These once let one response be many times as large as its records.
    ['id,time,id', /contains id twice/],
    ['extensions."\\u0061b",extensions.ab', /contains extensions\.ab twice/],
    ['data."total",data.total', /contains data\.total twice/],
    ['data.a,data', /contains data and data\.a, which is part of it/],
    ['data,data.k', /contains data and data\.k, which is part of it/],
    ['data.a.b,id,data.a', /contains data\.a and data\.a\.b, which is part of it/],
    ['extensions,extensions.n', /which is part of it/],
  ] as [string, RegExp][])
    for (const accept of ['application/json', 'text/csv']) {
      const response = await get(at(fields), { accept })
      isProblem(t, response, 'invalid_query', { name: fields.slice(0, 30), errors: [{ pointer: 'fields' }] })
      t.match(response.json.detail, why, fields.slice(0, 30))
    }
  const events = await get(at('id'), { accept: 'application/cloudevents-batch+json' })
  isProblem(t, events, 'invalid_query', { errors: [{ pointer: 'fields' }] })
})

t.test('pages and exports continue where they ended', async (t) => {
  const first = (await get(at('id', '&limit=3'))).json
  t.same(first.records, [{ id: '1' }, { id: '2' }, { id: '3' }])
  t.same((await get(at('id', `&cursor=${first.next}`))).json, { records: [{ id: '4' }, { id: '5' }], next: null })
  t.match((await get(at('id', '&limit=3'))).headers.link, /fields=id/)

  const total = 2500
  await post(Array.from({ length: total }, (_, n) => ({ source: 'many', type: 't', id: `${n}`, data: { n } })))
  const { text } = await get('/v1/records?source=many&order=asc&fields=data.n', CSV)
  t.equal(text, `data.n\r\n${Array.from({ length: total }, (_, n) => `${n}\r\n`).join('')}`)
})

// — memory —

const KiB = 1024

const db = open({
  url: database.apiUrl,
  name: 'fields',
  connections: 1,
  statementTimeoutMs: 0,
  onError: () => {},
  onUnsupported: () => {},
})
t.teardown(() => db.destroy())

function openReader(): Reader {
  const key: Key = { id: 'key', scopes: ['read'], sourcePrefixes: [] } as never
  const semaphore = new FairSemaphore(1, '')
  return { db, primary: { db, semaphore }, semaphore, key, signal: new AbortController().signal }
}

/** Reads a page, and returns its size and the memory that was reserved for it. */
async function measure(source: string, fields: string | undefined, maxBytes: number) {
  let reserved = 0
  let most = 0
  const { body } = await readPage(
    openReader(),
    { source, limit: 1000, ...(fields && { fields }) },
    maxBytes,
    'record',
    (bytes) => {
      reserved = bytes
      most = Math.max(most, bytes)
    },
  )
  return {
    size: body.length,
    records: JSON.parse(body.toString()).records.length,
    held: body.buffer.byteLength,
    reserved,
    most,
  }
}

t.test('the memory for a page counts what is written, also the names of absent fields', async (t) => {
  await post(Array.from({ length: 200 }, (_, n) => ({ source: 'small', type: 't', id: `${n}`, data: { k: n } })))
  const names = Array.from({ length: 4 }, (_, n) => `data.${String(n).repeat(240)}`).join()
  const small = await measure('small', names, 64 * KiB)
  t.ok(small.size <= 64 * KiB && small.size > 8 * KiB, `a page of ${small.size} bytes`)
  t.ok(small.records < 200, 'it ends early')

  await post(
    Array.from({ length: 20 }, (_, n) => ({
      source: 'large',
      type: 't',
      id: `${n}`,
      data: { k: 'x'.repeat(100_000), n },
    })),
  )
  const whole = await measure('large', undefined, 10_000 * KiB)
  const picked = await measure('large', 'id,data.n', 10_000 * KiB)
  t.equal(picked.records, 20)
  t.ok(whole.reserved > 20 * 100_000, 'without fields, the payloads are reserved')
  t.ok(picked.most < 8 * KiB, `${picked.most} bytes reserved for ${picked.size}`)
  for (const one of [small, whole, picked]) t.equal(one.reserved, one.held, 'what is held is reserved')

  const values = await measure('large', 'data.k', 10_000 * KiB)
  t.ok(values.size > 20 * 100_000 && values.most < 4 * values.size, 'large values are reserved while they are written')
  const bounded = await measure('large', 'data.k', 1000 * KiB)
  t.ok(bounded.records < 12 && bounded.size <= 1000 * KiB, `${bounded.records} records`)
})

t.test('the two pages of an export that are in memory stay small, whatever the names of the fields', async (t) => {
  await post(Array.from({ length: 1000 }, (_, n) => ({ source: 'export', type: 't', id: `${n}`, data: n })))
  const fields = `id,${Array.from({ length: 4 }, (_, n) => `data.${String(n).repeat(950)}`).join()}`
  for (const format of [NDJSON, CSV_FORMAT]) {
    const held: number[] = []
    let text = ''
    for await (const chunk of await openExport(openReader(), { source: 'export', fields }, format, 0)) {
      held.push(chunk.buffer.byteLength)
      text += chunk
    }
    t.equal(text.trimEnd().split('\n').length, format === CSV_FORMAT ? 1001 : 1000)
    t.ok(Math.max(...held) < 1.1 * 1024 * KiB, `${held}`)
  }
})

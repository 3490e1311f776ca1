import { parse } from 'csv-parse/sync'
import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { isProblem } from '../helpers/problem.ts'

const { post, get } = await createApp(t)

await post(
  [
    '{"source":"f","type":"t","id":"1","batch":"b1","n":5,"data":{"total":12345678901234567890.10,"customer":{"name":"Ann, \\"A\\"","e.mail":"a@x"},"items":[{"sku":"x"}]}}',
    '{"source":"f","type":"t","id":"2","subject":"s","data":{"total":null,"text":" \\u0041\\n=1+1","flag":true}}',
    '{"source":"f","type":"t","id":"3","data":[1,2]}',
    '{"source":"f","type":"t","id":"4","data_base64":"AAH/"}',
  ].join('\n'),
  { 'content-type': 'application/x-ndjson' },
)
const at = (fields: string, more = '') => `/v1/records?source=f&order=asc&fields=${encodeURIComponent(fields)}${more}`
const lines = async (fields: string, more = '') =>
  (await get(at(fields, more), { accept: 'application/x-ndjson' })).text.trim().split('\n')
const rows = async (fields: string, more = '') => parse((await get(at(fields, more), { accept: 'text/csv' })).text)

t.test(
  'a page and an NDJSON export have the fields that were asked for, under these names and in this order',
  async (t) => {
    const fields = 'data.total,id,subject,data.customer."e.mail",data.items.0.sku,extensions.n,extensions.batch'
    const expected = [
      '{"data.total":12345678901234567890.10,"id":"1","data.customer.\\"e.mail\\"":"a@x","data.items.0.sku":"x","extensions.n":5,"extensions.batch":"b1"}',
      '{"data.total":null,"id":"2","subject":"s"}',
      '{"id":"3"}',
      '{"id":"4"}',
    ]
    t.same(await lines(fields), expected)
    t.match((await get(at(fields))).text, `{"records":[${expected}],"next":null}`)
  },
)

t.test('a field can be any member of a record', async (t) => {
  const all =
    'specversion,source,id,type,time,subject,dataschema,datacontenttype,extensions,data,data_base64,receivedAt,cursor'
  const [one, , , four] = (await lines(all)).map((line) => JSON.parse(line))
  const whole = (await get('/v1/records/f/1')).json
  const { batch, n, data, ...rest } = whole
  t.same(one, { ...rest, extensions: { batch, n }, data })
  t.match(four, { data_base64: 'AAH/' })
})

t.test(
  'in CSV, each field is a column: text as it is, other values in JSON, null and what is missing as nothing',
  async (t) => {
    t.same(await rows('id,data.total,data.customer.name,data.text,data.flag,data.items'), [
      ['id', 'data.total', 'data.customer.name', 'data.text', 'data.flag', 'data.items'],
      ['1', '12345678901234567890.10', 'Ann, "A"', '', '', '[{"sku":"x"}]'],
      ['2', '', '', ' A\n=1+1', 'true', ''],
      ['3', '', '', '', '', ''],
      ['4', '', '', '', '', ''],
    ])
  },
)

t.test('data.* is a field for each member that occurs in the selection', async (t) => {
  t.same((await rows('id,data.*'))[0], ['id', 'data.total', 'data.customer', 'data.text', 'data.flag', 'data.items'])
  t.same((await rows('data.text,data.*', '&id=2'))[0], ['data.text', 'data.total', 'data.flag'], 'no column twice')
  t.same((await rows('id,data.*', '&limit=1'))[0], ['id', 'data.total', 'data.customer', 'data.items'], 'of one record')
  t.same((await rows('id,data.*', '&id=3'))[0], ['id'], 'data that is no object has no members')

  const many = Object.fromEntries(Array.from({ length: 200 }, (_, n) => [`m${n}`, n]))
  await post({ source: 'many', type: 't', id: '1', data: many })
  const { json } = await get('/v1/records?source=many&fields=data.*')
  t.equal(Object.keys(json.records[0]).length, 200)
  isProblem(t, await get('/v1/records?source=many&fields=id,data.*'), 'invalid_query')
})

t.test('names that are not fields are refused, and the message says what to write', async (t) => {
  for (const [fields, why] of [
    ['total', /A member of the data is data\.total, an extension attribute is extensions\.total\. The fields are spec/],
    ['id,,time', /cannot be read at character 4/],
    [',', /cannot be read at character 1/],
    ['id,', /ends with a comma/],
    ['id,time,id', /contains id twice/],
    ['id.x', /only data and extensions have members/],
    ['data."a', /cannot be read at character 1/],
    ['data."\\q"', /not a JSON string/],
    ['data."\\ud800"', /no record can contain/],
    ['data."\\u0000"', /no record can contain/],
    [Array.from({ length: 201 }, (_, n) => `data.${n}`).join(), /more than 200 names/],
  ] as [string, RegExp][]) {
    const response = await get(at(fields))
    isProblem(t, response, 'invalid_query')
    t.match(response.json.detail, why, fields.slice(0, 20))
  }
  const events = await get(at('id'), { accept: 'application/cloudevents-batch+json' })
  isProblem(t, events, 'invalid_query')
})

// The member count was refused.
t.test('a page with a count can be sent back', async (t) => {
  const { text } = await get('/v1/records?source=f&limit=2&count=true')
  const sorted = JSON.stringify({ count: 2, next: null, ...JSON.parse(text) })
  for (const page of [text, sorted]) t.match(await post(page), { status: 200, json: { counts: { duplicate: 2 } } })
})

t.test('count=true counts the records of all pages', async (t) => {
  const { json } = await get('/v1/records?source=f&limit=1&count=true')
  t.match(json, { count: 4, records: { length: 1 } })
  t.equal((await get(`/v1/records?source=f&limit=1&count=true&cursor=${json.next}`)).json.count, 4)
  t.equal((await get('/v1/records?source=nobody&count=true')).json.count, 0)
  t.equal((await get('/v1/records?source=f&order=asc&type=t&count=true')).json.count, 4)
  t.notOk('count' in (await get('/v1/records?source=f&count=false')).json)
  for (const accept of ['text/csv', 'application/x-ndjson', 'application/cloudevents-batch+json'])
    isProblem(t, await get('/v1/records?source=f&count=true', { accept }), 'invalid_query')
})

t.test('jsonpath selects by a condition, or by a path to something that must exist', async (t) => {
  const flights = [
    { delay: 250, legs: [{ to: 'FRA' }] },
    { delay: 90.5, legs: [] },
    { delay: '300' },
    { delay: null },
    [{ delay: 101 }],
    'text',
    null,
  ]
  await post(flights.map((data, n) => ({ source: 'j', type: 't', id: String(n), data })))
  await post({ source: 'j', type: 't', id: 'bytes', data_base64: 'AAH/' })
  const ids = async (path: string) => {
    const { json } = await get(`/v1/records?source=j&order=asc&jsonpath=${encodeURIComponent(path)}`)
    return json.records.map(({ id }: { id: string }) => id).join('')
  }
  for (const [path, expected] of [
    ['$.delay > 100', '04'],
    ['strict $.delay > 100', '0'],
    ['$.delay > 100 && exists($.legs)', '0'],
    ['($.delay > 100) is unknown', '2'],
    ['$.legs[*].to == "FRA"', '0'],
    ['$.legs[*] ? (@.to starts with "F")', '0'],
    ['$.delay', '01234'],
    ['$', '0123456'],
    ['$ like_regex "^te"', '5'],
    ['$.nothing', ''],
  ] as [string, string][])
    t.equal(await ids(path), expected, path)
})

t.test('a wrong jsonpath is refused with what PostgreSQL says', async (t) => {
  for (const [path, why] of [
    ['delay >', /syntax error/],
    ['$.delay > $limit', /could not find jsonpath variable "limit"/],
    ['$ like_regex "("', /invalid regular expression/],
    ['a\0', /U\+0000/],
  ] as const)
    for (const accept of ['application/json', 'text/csv']) {
      const response = await get(`/v1/records?source=j&jsonpath=${encodeURIComponent(path)}`, { accept })
      isProblem(t, response, 'invalid_query')
      t.match(response.json, { detail: why, errors: [{ pointer: 'jsonpath' }] }, path)
    }
})

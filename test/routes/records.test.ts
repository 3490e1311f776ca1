import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { isProblem } from '../helpers/problem.ts'
import { exchange, head, listen } from '../helpers/socket.ts'

const { app, key, post, get, makeKey } = await createApp(t)
const port = await listen(app)
const path = (source: string, id: string) => `/v1/records/${encodeURIComponent(source)}/${encodeURIComponent(id)}`

t.test('a record is read back with all its attributes, receivedAt and cursor', async (t) => {
  const sent = {
    specversion: '1.0',
    source: 'https://example.com/shop?a=1#b',
    id: 'whole',
    type: 'com.example.order.placed',
    subject: 'order 1',
    time: '2026-01-31T12:00:00.123456Z',
    dataschema: 'https://example.com/schemas/order',
    datacontenttype: 'application/json',
    partitionkey: 'p',
    sampled: true,
    sequence: 7,
    data: { total: 12.5, lines: [null, false] },
  }
  t.equal((await post(sent)).status, 201)
  const answer = await get(path(sent.source, 'whole'))
  t.equal(answer.status, 200)
  t.equal(answer.headers['content-type'], 'application/json; charset=utf-8')
  const { receivedAt, cursor, ...read } = answer.json
  t.same(read, sent)
  t.match(receivedAt, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$/)
  t.match(cursor, /^1[\da-f]{48}$/)
})

t.test('a record with any source and id can be read through a real connection, percent-encoded', async (t) => {
  const ids = [
    'a/b',
    '/',
    '//',
    'a b',
    ' ',
    '%',
    '%2F',
    '%25',
    '100%',
    'a?b=c&d#e',
    'a;b',
    'a+b',
    'caf\u00e9',
    '\u{1f980}'.repeat(64),
    'x'.repeat(256),
    '*',
    ':id',
    '"\\\'<>',
    '...',
    'a..',
  ]
  const sources = ['s', 'https://example.com/a%2Fb/?c=d#e', '/', '%F0%9F%A6%80', '/'.repeat(512)]
  const records = sources.flatMap((source) => ids.map((id) => ({ source, id, type: 't' })))
  t.equal((await post(records)).json.counts.created, records.length)
  for (const { source, id } of records) {
    const answer = await exchange(port, head('GET', path(source, id), { Authorization: `Bearer ${key}` }))
    t.match(answer.json, { source, id }, `${source.slice(0, 20)} ${id.slice(0, 20)}`)
  }
})

t.test('a record that is not stored is 404', async (t) => {
  for (const [source, id] of [
    ['s', 'nothing'],
    ['nobody', 'a/b'],
    ['s', 'a\u0000b'],
    ['s\u0000', '1'],
    ['S', 'a/b'],
    ['s', '\u{1f980}'.repeat(100)],
  ] as const) {
    isProblem(t, await get(path(source, id)), 'not_found', { name: JSON.stringify([source, id.slice(0, 9)]) })
  }
})

t.test('a path that is not percent-encoded UTF-8, or is too long, is refused', async (t) => {
  for (const path of ['/v1/records/%zz/1', '/v1/records/%ff/1', '/v1/records/s/%']) {
    isProblem(t, await get(path), 'invalid_request', { name: path })
  }
  isProblem(t, await get(`/v1/records/s/${'x'.repeat(1537)}`), 'uri_too_long')
})

t.test('a key with source prefixes reads only these sources', async (t) => {
  await post([
    { source: 'mine/1', id: '1', type: 'prefixed' },
    { source: 'theirs', id: '1', type: 'prefixed' },
    { source: 'MINE/1', id: '1', type: 'prefixed' },
  ])
  const authorization = `Bearer ${(await makeKey({ sourcePrefixes: ['mine/', 'ours'] })).token}`
  t.equal((await get(path('mine/1', '1'), { authorization })).status, 200)
  isProblem(t, await get(path('theirs', '1'), { authorization }), 'source_forbidden')
  isProblem(t, await get(path('theirs', 'nothing'), { authorization }), 'source_forbidden', {
    name: 'even if the record does not exist',
  })
  const page = await get('/v1/records?type=prefixed', { authorization })
  t.match(page.json.records, [{ source: 'mine/1' }])
  t.equal(page.json.records.length, 1)
  t.same((await get('/v1/records?source=theirs', { authorization })).json.records, [])
})

t.test('a key for shop cannot read shopping-mall or shop/../admin, alone, in a list or in an export', async (t) => {
  const sources = ['shop', 'shop/1', 'shopping-mall', 'shop/../admin']
  await post(sources.map((source) => ({ source, id: '1', type: 'bounded' })))
  const authorization = `Bearer ${(await makeKey({ sourcePrefixes: ['shop'] })).token}`
  for (const source of ['shop', 'shop/1']) t.equal((await get(path(source, '1'), { authorization })).status, 200)
  for (const source of ['shopping-mall', 'shop/../admin'])
    isProblem(t, await get(path(source, '1'), { authorization }), 'source_forbidden', { name: source })
  const read = async (query = '', accept = 'application/json') =>
    (await get(`/v1/records?type=bounded&order=asc${query}`, { authorization, accept })).text.match(
      /(?<="source":")[^"]+/g,
    )
  t.same(await read(), ['shop', 'shop/1'])
  t.same(await read('', 'application/x-ndjson'), ['shop', 'shop/1'])
  t.same(await read('&sourcePrefix=sh'), ['shop', 'shop/1'], 'a filter is a plain prefix, and gives no access')
})

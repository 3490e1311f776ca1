import { brotliDecompressSync, gunzipSync, zstdDecompressSync } from 'node:zlib'
import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { openClient } from '../helpers/http.ts'
import { isProblem } from '../helpers/problem.ts'
import { listen } from '../helpers/socket.ts'

const { app, key, post } = await createApp(t)
const client = openClient(t, await listen(app), key)
const LIST = '/v1/records?source=n'
const RECORD = '/v1/records/n/1'
t.equal((await post({ source: 'n', id: '1', type: 't' })).status, 201)

const JSON_TYPE = 'application/json; charset=utf-8'
const LINES = ['application/x-ndjson', 'application/ndjson', 'application/jsonl'].map(
  (type) => `${type}; charset=utf-8`,
)
const [X_NDJSON, NDJSON, JSONL] = LINES as [string, string, string]
const CSV = 'text/csv; charset=utf-8'
const BATCH = 'application/cloudevents-batch+json'
const EVENT = 'application/cloudevents+json; charset=utf-8'

t.test('a list has the media type that Accept prefers, under the name that it uses', async (t) => {
  const cases: [accept: string | undefined, type: string][] = [
    [undefined, JSON_TYPE],
    ['', JSON_TYPE],
    ['*/*', JSON_TYPE],
    ['application/*', JSON_TYPE],
    ['application/json', JSON_TYPE],
    ['application/x-ndjson', X_NDJSON],
    ['application/ndjson', NDJSON],
    ['application/jsonl', JSONL],
    ['Application/JSONL', JSONL],
    ['text/csv', CSV],
    ['text/*', CSV],
    [BATCH, BATCH],
    // Weights
    ['application/json;q=0.5, text/csv', CSV],
    ['application/json;q=0.5, text/csv;q=0.4', JSON_TYPE],
    ['application/json;q=0, */*', X_NDJSON],
    ['*/*;q=0.1, application/jsonl', JSONL],
    ['text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8', JSON_TYPE],
    ['text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2', JSON_TYPE],
    // The most specific range counts, whatever its position
    ['application/*, application/json;q=0.1', X_NDJSON],
    ['*/*, text/*;q=0.1, application/*;q=0', CSV],
    ['text/csv, application/json', CSV],
    // Parameters
    ['application/jsonl; charset=utf-8', JSONL],
    ['text/csv;header=present;q=0.9, application/json;q=0.8', CSV],
    ['text/csv; note="a, application/json; q=1", application/json;q=0.1', CSV],
    ['application/jsonl ; Q=1', JSONL],
    // What is malformed is ignored
    ['garbage', JSON_TYPE],
    ['*', JSON_TYPE],
    [';q=1', JSON_TYPE],
    [',', JSON_TYPE],
    ['garbage, text/csv', CSV],
    [',, text/csv ,', CSV],
    ['text/csv;q=high', CSV],
    ['text/csv;', CSV],
  ]
  for (const [accept, type] of cases) {
    const answer = await client.send('GET', LIST, accept === undefined ? {} : { accept })
    t.equal(answer.status, 200, String(accept))
    t.equal(answer.headers['content-type'], type, String(accept))
    t.match(answer.headers.vary, /^accept, accept-encoding$/i, String(accept))
  }
  for (const type of LINES) {
    const { text } = await client.send('GET', LIST, { accept: type })
    t.match(JSON.parse(text), { source: 'n', id: '1' })
    t.equal((await post(text, { 'content-type': type })).json.counts.duplicate, 1, `${type} can be sent back`)
  }
})

t.test('several Accept headers are one list', async (t) => {
  const { headers } = await client.send('GET', LIST, { accept: ['text/html', 'text/csv'] as never })
  t.equal(headers['content-type'], CSV)
})

t.test('a record has the media type that Accept prefers', async (t) => {
  for (const [accept, type] of [
    ['*/*', JSON_TYPE],
    ['application/cloudevents+json', EVENT],
    ['application/json;q=0.1, application/*', EVENT],
  ] as const) {
    const { headers } = await client.send('GET', RECORD, { accept })
    t.equal(headers['content-type'], type, accept)
    t.match(headers.vary, /^accept, accept-encoding$/i)
  }
})

t.test('if no media type is acceptable, the response lists the available ones', async (t) => {
  for (const [path, accept, available] of [
    [LIST, 'text/html', [...LINES, CSV, JSON_TYPE, BATCH]],
    [LIST, '*/*;q=0', LINES],
    [LIST, 'application/json;q=0', LINES],
    [RECORD, 'text/csv', [JSON_TYPE, EVENT]],
  ] as const) {
    const answer = await client.send('GET', path, { accept })
    isProblem(t, answer, 'not_acceptable', { name: accept })
    for (const type of available)
      t.ok(answer.json.detail.includes(type.replace('; charset=utf-8', '')), `${accept}: ${type}`)
    t.match(answer.headers.vary, /^accept, accept-encoding$/i)
  }
})

const INFLATE = { gzip: gunzipSync, br: brotliDecompressSync, zstd: zstdDecompressSync }

t.test('the coding is the one that Accept-Encoding prefers', async (t) => {
  await post(Array.from({ length: 100 }, (_, n) => ({ source: 'many', id: String(n), type: 't' })))
  const cases: [accepted: string, coding: keyof typeof INFLATE | undefined][] = [
    ['', undefined],
    ['identity', undefined],
    ['gzip', 'gzip'],
    ['GZIP', 'gzip'],
    ['x-gzip', 'gzip'],
    ['*', 'zstd'],
    ['gzip, deflate, br, zstd', 'zstd'],
    ['gzip, deflate, br', 'br'],
    ['gzip;q=1, br;q=0.5', 'gzip'],
    ['zstd;q=0, *', 'br'],
    ['*;q=0.5, gzip', 'gzip'],
    ['identity, gzip;q=0.5', undefined],
    ['gzip;q=0', undefined],
    ['deflate, compress', undefined],
    ['gzip, *;q=0', 'gzip'],
    ['gzip, identity;q=0', 'gzip'],
    ['garbage;;', undefined],
  ]
  for (const accept of ['application/json', 'application/jsonl', 'text/csv']) {
    const plain = await client.send('GET', '/v1/records?source=many', { accept })
    for (const [accepted, coding] of cases) {
      const answer = await client.send('GET', '/v1/records?source=many', { accept, 'accept-encoding': accepted })
      t.equal(answer.headers['content-encoding'], coding, `${accept}: ${accepted}`)
      t.match(answer.headers.vary, /^accept, accept-encoding$/i)
      const bytes = coding === undefined ? answer.bytes : INFLATE[coding](answer.bytes)
      t.equal(bytes.toString(), plain.text, `${accept}: ${accepted}`)
    }
  }
})

t.test('a response without a coding is sent only if it is acceptable', async (t) => {
  for (const path of [LIST, RECORD]) {
    const plain = await client.send('GET', path)
    for (const accepted of ['gzip, identity;q=0', 'gzip, *;q=0']) {
      const answer = await client.send('GET', path, { 'accept-encoding': accepted })
      t.equal(answer.headers['content-encoding'], 'gzip', `${path}: ${accepted}`)
      t.equal(gunzipSync(answer.bytes).toString(), plain.text, `${path}: ${accepted}`)
    }
    for (const accepted of ['identity;q=0', '*;q=0', 'compress, identity;q=0']) {
      const answer = await client.send('GET', path, { 'accept-encoding': accepted })
      isProblem(t, answer, 'not_acceptable', { name: `${path}: ${accepted}` })
      t.match(answer.json.detail, /zstd, br, gzip, identity/)
      t.match(answer.headers.vary, /^accept, accept-encoding$/i)
    }
  }
  const { headers } = await client.send('GET', RECORD, { 'accept-encoding': 'gzip' })
  t.equal(headers['content-encoding'], undefined, 'a single record is compressed only if it must be')
})

t.test('a refused media type or coding of a body comes with the accepted ones', async (t) => {
  const record = '{"source":"n","id":"1","type":"t"}'
  for (const [path, headers, name, value] of [
    ['/v1/records', { 'content-type': 'text/plain' }, 'accept', /^application\/json, application\/x-ndjson, /],
    ['/v1/records', {}, 'accept', /^application\/json, /],
    ['/v1/records', { 'content-type': 'text/plain' }, 'accept-post', /^application\/json, /],
    ['/v1/keys', { 'content-type': 'text/plain' }, 'accept', /^application\/json$/],
    ['/v1/keys', { 'content-type': 'not a type' }, 'accept', /^application\/json$/],
    [
      '/v1/records',
      { 'content-type': 'application/json', 'content-encoding': 'lz4' },
      'accept-encoding',
      /^gzip, br, zstd, deflate$/,
    ],
    [
      '/v1/records',
      { 'content-type': 'application/json', 'content-encoding': 'gzip, br' },
      'accept-encoding',
      /^gzip, br/,
    ],
  ] as const) {
    const answer = await client.send('POST', path, headers, record)
    t.equal(answer.status, 415, JSON.stringify(headers))
    t.match(answer.headers[name], value, JSON.stringify(headers))
  }
})

t.test('names of codings have any case, and identity and empty elements count for nothing', async (t) => {
  const record = '{"source":"n","id":"1","type":"t"}'
  for (const coding of ['identity', 'Identity', 'identity, identity', '', ',']) {
    const answer = await post(record, { 'content-encoding': coding })
    t.equal(answer.status, 200, coding)
  }
})

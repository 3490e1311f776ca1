import {
  brotliCompressSync,
  brotliDecompressSync,
  constants,
  deflateSync,
  gunzipSync,
  gzipSync,
  zstdCompressSync,
  zstdDecompressSync,
} from 'node:zlib'
import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { openClient } from '../helpers/http.ts'
import { isProblem } from '../helpers/problem.ts'
import { listen } from '../helpers/socket.ts'

const server = await createApp(t)
const { post, get } = server
const client = openClient(t, await listen(server.app), server.key)

const DEFLATERS = {
  gzip: gzipSync,
  br: (bytes: Buffer | string) => brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } }),
  zstd: zstdCompressSync,
  deflate: deflateSync,
}
const INFLATERS = { gzip: gunzipSync, br: brotliDecompressSync, zstd: zstdDecompressSync }
const encodings = Object.entries(DEFLATERS)

const record = (id: string, data = '"x"') => `{"source":"enc","type":"t","id":"${id}","data":${data}}`
const compressed = (body: Buffer, encoding: string, headers = {}) =>
  client.send(
    'POST',
    '/v1/records',
    { 'content-type': 'application/json', 'content-encoding': encoding, ...headers },
    body,
  )
/** Checks that the connection is open, and that no part of the body is taken for the next request. */
const stillWorks = async (name: string) =>
  t.equal((await client.send('GET', '/healthz')).text, 'ok\n', `${name}: the connection still works`)

// — requests —

t.test('every format is accepted in every encoding', async (t) => {
  for (const [encoding, deflate] of encodings) {
    for (const [type, body] of [
      ['application/json', `[${record(`${encoding}-batch`, '12345678901234567890')}]`],
      ['application/x-ndjson', `${record(`${encoding}-line`)}\n`],
      ['application/cloudevents+json', record(`${encoding}-event`).replace('{', '{"specversion":"1.0",')],
      ['application/cloudevents-batch+json', `[${record(`${encoding}-events`).replace('{', '{"specversion":"1.0",')}]`],
    ] as const) {
      const answer = await compressed(deflate(body), encoding, { 'content-type': type })
      t.equal(answer.status, 201, `${encoding} ${type}`)
    }
    const ce = { 'ce-specversion': '1.0', 'ce-id': `${encoding}-binary`, 'ce-source': 'enc', 'ce-type': 't' }
    t.equal((await compressed(deflate('[1.0]'), encoding, ce)).status, 201, `${encoding}, binary mode`)
    t.match((await get(`/v1/records/enc/${encoding}-binary`)).text, '"data":[1.0]')
    t.match((await get(`/v1/records/enc/${encoding}-batch`)).text, '"data":12345678901234567890')
  }
})

t.test('the limits of a record, a batch and a line count inflated bytes', async (t) => {
  const small = await createApp(t, { MAX_RECORD_BYTES: '2048', MAX_BATCH_BYTES: '8192' })
  for (const [encoding, deflate] of encodings) {
    const headers = { 'content-encoding': encoding }
    const one = record(`${encoding}-one`, `"${'x'.repeat(2100)}"`)
    isProblem(t, await small.post(deflate(one), headers), 'body_too_large', { name: `${encoding}: a record` })
    const batch = `[${Array.from({ length: 9 }, (_, n) => record(`${encoding}${n}`, `"${'x'.repeat(1000)}"`)).join()}]`
    isProblem(t, await small.post(deflate(batch), headers), 'body_too_large', { name: `${encoding}: a batch` })
    const answer = await small.post(deflate(`${one}\n${record(`${encoding}-two`)}`), {
      ...headers,
      'content-type': 'application/x-ndjson',
    })
    t.match(
      answer.json,
      { counts: { created: 1, rejected: 1 }, rejections: [{ line: 1, code: 'record_too_large' }] },
      encoding,
    )
  }
  t.equal(small.app.ingestMemory.used, 0)
})

t.test('a compression bomb is refused early, and the connection can be used again', async (t) => {
  const zeros = Buffer.alloc(128 * 1024 * 1024)
  for (const [encoding, deflate] of encodings) {
    const begin = process.cpuUsage()
    const bomb = deflate(zeros)
    const { user: made } = process.cpuUsage(begin)
    for (const type of ['application/json', 'application/x-ndjson']) {
      const before = process.cpuUsage()
      const answer = await compressed(bomb, encoding, { 'content-type': type })
      const name = `${encoding}, ${type}: ${bomb.length} bytes`
      t.equal(answer.status, 413, name)
      t.match(answer.json.code, /^(inflates_too_far|body_too_large)$/, name)
      const { user } = process.cpuUsage(before)
      // Refusing it takes some hundredths of that. Inflating it in small pieces, or repeatedly, takes a multiple.
      t.ok(user < 10 * made, `${name}: ${user} µs of processor time, and ${made} to compress it`)
      await stillWorks(name)
    }
  }
  t.equal(server.app.ingestMemory.used, 0)
})

t.test('complete lines before a compression bomb are stored, and the problem reports them', async (t) => {
  for (const [encoding, deflate] of encodings) {
    const good = Array.from({ length: 100 }, (_, n) => `${record(`${encoding}-before-${n}`)}\n`).join('')
    const answer = await compressed(
      deflate(Buffer.concat([Buffer.from(good), Buffer.alloc(32 * 1024 * 1024)])),
      encoding,
      {
        'content-type': 'application/x-ndjson',
      },
    )
    isProblem(t, answer, 'inflates_too_far', { name: encoding, outcome: 'unknown' })
    t.match(answer.json, { counts: { created: 100 }, committedLines: 100 }, encoding)
    t.equal((await get(`/v1/records/enc/${encoding}-before-99`)).status, 200)
  }
})

t.test('a corrupt or truncated body is 400, and its record is not stored', async (t) => {
  for (const [encoding, deflate] of encodings) {
    const whole = deflate(record(`${encoding}-corrupt`))
    for (const [what, body] of [
      ['truncated', whole.subarray(0, -3)],
      ['not compressed at all', Buffer.from(record(`${encoding}-corrupt`))],
      ['empty', Buffer.alloc(0)],
      ['with bytes after the end', Buffer.concat([whole, Buffer.from('more')])],
    ] as const) {
      isProblem(t, await compressed(body, encoding), 'corrupt_encoding', { name: `${encoding} ${what}` })
      await stillWorks(`${encoding} ${what}`)
    }
    t.equal((await get(`/v1/records/enc/${encoding}-corrupt`)).status, 404, encoding)
  }
})

t.test('the problem for a truncated body of lines reports how many lines were stored', async (t) => {
  for (const [encoding, deflate] of encodings) {
    const body = Array.from(
      { length: 3000 },
      (_, n) => `${record(`${encoding}-cut-${n}`, String(Math.sin(n)))}\n`,
    ).join('')
    const answer = await compressed(deflate(body).subarray(0, -20), encoding, {
      'content-type': 'application/x-ndjson',
    })
    isProblem(t, answer, 'corrupt_encoding', {
      name: encoding,
      outcome: answer.json.counts.created > 0 ? 'unknown' : 'not_written',
    })
    const { created, rejected } = answer.json.counts
    t.ok(created + rejected <= 3000 && rejected === 0, `${encoding}: ${created} lines were stored`)
    t.equal(answer.json.committedLines, created)
    await stillWorks(encoding)
  }
})

t.test('all frames of a zstd body are read', async (t) => {
  const body = Buffer.concat([1, 2, 3].map((n) => zstdCompressSync(`${record(`frame-${n}`)}\n`)))
  const answer = await compressed(body, 'zstd', { 'content-type': 'application/x-ndjson' })
  t.match(answer.json, { counts: { created: 3 }, lines: 3 })
})

t.test('the key is checked before anything is inflated', async (t) => {
  const bomb = gzipSync(Buffer.alloc(128 * 1024 * 1024))
  const readOnly = (await server.makeKey({ scopes: ['read'] })).token
  for (const [authorization, code] of [
    ['Bearer unknown-unknown-unknown', 'unauthorized'],
    [`Bearer ${readOnly}`, 'forbidden'],
  ] as const) {
    for (const body of [bomb, Buffer.from('not gzip at all')]) {
      isProblem(t, await compressed(body, 'gzip', { authorization }), code)
      await stillWorks(code)
    }
    isProblem(t, await compressed(bomb, 'snappy', { authorization }), code, { name: 'before the encoding is checked' })
  }
})

t.test('chained and unknown encodings are refused, and the connection can be used again', async (t) => {
  for (const encoding of ['gzip, gzip', 'br,gzip', 'lz4', 'compress']) {
    const answer = await compressed(gzipSync(gzipSync(record('chained'))), encoding)
    isProblem(t, answer, 'unsupported_encoding', { name: encoding })
    t.equal(answer.headers['accept-encoding'], 'gzip, br, zstd, deflate')
    await stillWorks(encoding)
  }
})

// — responses —

t.test('lists and exports are compressed as Accept-Encoding says', async (t) => {
  await post(`[${Array.from({ length: 200 }, (_, n) => `{"source":"out","type":"t","id":"${n}"}`).join()}]`)
  for (const accept of ['application/json', 'application/x-ndjson', 'text/csv', 'application/cloudevents-batch+json']) {
    const path = '/v1/records?source=out&limit=200'
    const plain = await client.send('GET', path, { accept, 'accept-encoding': 'identity' })
    t.equal(plain.status, 200)
    t.equal(plain.headers['content-encoding'], undefined, accept)
    for (const [encoding, inflate] of Object.entries(INFLATERS)) {
      const answer = await client.send('GET', path, { accept, 'accept-encoding': encoding })
      t.equal(answer.headers['content-encoding'], encoding, `${accept} ${encoding}`)
      t.equal(answer.headers['content-type'], plain.headers['content-type'])
      t.match(String(answer.headers.vary).toLowerCase(), /accept, accept-encoding/)
      t.ok(answer.bytes.length < plain.bytes.length / 3, `${answer.bytes.length} of ${plain.bytes.length} bytes`)
      t.equal(inflate(answer.bytes).toString(), plain.text, `${accept} ${encoding}: the same text`)
    }
    for (const [accepted, encoding] of [
      ['gzip;q=0.5, zstd', 'zstd'],
      ['gzip, zstd;q=0', 'gzip'],
      ['deflate', undefined],
      ['compress, identity', undefined],
    ] as const) {
      const answer = await client.send('GET', path, { accept, 'accept-encoding': accepted })
      t.equal(answer.status, 200)
      t.equal(answer.headers['content-encoding'], encoding, `${accept}: ${accepted}`)
    }
  }
})

t.test('a problem is never compressed', async (t) => {
  const answer = await client.send('GET', '/v1/records?order=sideways', { 'accept-encoding': 'gzip' })
  isProblem(t, answer, 'invalid_query')
})

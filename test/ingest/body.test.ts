import { Readable } from 'node:stream'
import fc from 'fast-check'
import t from 'tap'
import { decodeText, readBody } from '../../src/ingest/body.ts'
import { createApp } from '../helpers/app.ts'
import { isProblem } from '../helpers/problem.ts'
import { chunked, exchange, head, listen } from '../helpers/socket.ts'

const MiB = 1024 * 1024
const { app, key, post, get } = await createApp(t)
const small = await createApp(t, { MAX_RECORD_BYTES: '2048', MAX_BATCH_BYTES: '8192', QUEUE_MAX_BYTES: '32768' })
const port = await listen(app)
const smallPort = await listen(small.app)

const json = (token: string, headers: Record<string, string>) =>
  head('POST', '/v1/records', { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json', ...headers })
/** A record of exactly `bytes` bytes. Its letters have two bytes each. */
const recordOf = (bytes: number, id: string) => {
  const [before, after] = [`{"source":"size","type":"t","id":"${id}","data":"`, '"}']
  const room = bytes - before.length - after.length
  return `${before}${'\u00e9'.repeat(room >> 1)}${room % 2 === 1 ? 'x' : ''}${after}`
}

t.test('a record of 1 MiB is stored, and one that is a byte larger is refused', async (t) => {
  t.equal((await post(recordOf(MiB, '1'))).status, 201)
  isProblem(t, await post(recordOf(MiB + 1, '2')), 'body_too_large')
  t.equal((await get('/v1/records/size/2')).status, 404)
})

t.test('in a batch, a record over 1 MiB is rejected, and its neighbours are stored', async (t) => {
  const response = await post(`[${recordOf(100, '3')},${recordOf(MiB + 1, '4')},${recordOf(MiB, '5')}]`)
  t.equal(response.status, 207)
  t.match(response.json.results, [
    { status: 'created' },
    { index: 1, source: 'size', id: '4', status: 'rejected', error: { pointer: '', code: 'record_too_large' } },
    { status: 'created' },
  ])
  isProblem(t, await post(`[${recordOf(MiB + 1, '4')}]`), 'record_too_large')
})

t.test('a batch of 16 MiB is stored, and one that is a byte larger is refused', async (t) => {
  const records = Array.from({ length: 16 }, (_, n) => recordOf(MiB - 2, `full${n}`))
  const full = `[${records.join()} ]`.replace(' ]', ']'.padStart(16 * MiB - Buffer.byteLength(`[${records.join()}`)))
  t.equal(Buffer.byteLength(full), 16 * MiB)
  t.equal((await post(full)).status, 201)
  isProblem(t, await post(`${full} `), 'body_too_large')
})

t.test('a chunked body has the same limits', async (t) => {
  const chunkedHead = json(small.key, { 'Transfer-Encoding': 'chunked' })
  const send = (body: string) => {
    const bytes = Buffer.from(body)
    const pieces = Array.from({ length: Math.ceil(bytes.length / 1000) }, (_, n) =>
      bytes.subarray(n * 1000, n * 1000 + 1000),
    )
    return exchange(smallPort, chunkedHead, ...chunked(...pieces))
  }
  t.equal((await send(recordOf(2048, 'c1'))).status, 201)
  isProblem(t, await send(recordOf(2049, 'c2')), 'body_too_large')
  t.equal((await send(`[${recordOf(2048, 'c3')},${recordOf(2048, 'c4')},${recordOf(2048, 'c5')}]`)).status, 201)
  isProblem(
    t,
    await send(`[${Array.from({ length: 8 }, (_, n) => recordOf(1100, `c${n}`)).join()}]`),
    'body_too_large',
    {
      name: 'a batch',
    },
  )
  t.equal((await small.get('/v1/records/size/c2')).status, 404)
})

t.test('a chunked body is refused as soon as it exceeds the limit, before its end', async (t) => {
  const chunk = Buffer.from(`1000\r\n${' '.repeat(4096)}\r\n`)
  isProblem(
    t,
    await exchange(smallPort, json(small.key, { 'Transfer-Encoding': 'chunked' }), chunk, chunk, chunk),
    'body_too_large',
  )
})

t.test('a body whose Content-Length exceeds the limit is refused before it is sent', async (t) => {
  const response = await exchange(port, json(key, { 'Content-Length': String(16 * MiB + 1) }))
  isProblem(t, response, 'body_too_large')
})

// The first character after white space distinguishes a record from a batch. It was looked for only in the first kilobyte:
// after more white space, a batch could be mistaken for a record and got the smaller limit.
t.test('a batch after more than a kilobyte of white space has the limit of a batch', async (t) => {
  const bytes = Buffer.from(`${' '.repeat(1100)}[${recordOf(1500, 'w1')},${recordOf(1500, 'w2')}]`)
  const brace = bytes.indexOf('{')
  const response = await exchange(
    smallPort,
    json(small.key, { 'Transfer-Encoding': 'chunked' }),
    ...chunked(bytes.subarray(0, brace), bytes.subarray(brace)),
  )
  t.equal(response.status, 201)
})

t.test('a body cut short by a lost connection is incomplete, and its Content-Length is reserved at once', async (t) => {
  const stream = new Readable({ read() {} })
  stream.push('{"source":"cut",')
  const limits = { maxBatchBytes: 8192, maxRecordBytes: 2048 }
  const held: number[] = []
  const read = readBody(stream, 4096, limits, (bytes) => held.push(bytes))
  t.same(held, [4096])
  stream.destroy()
  await t.rejects(read, { code: 'incomplete_body' })
})

t.test('a body that does not fit into the free memory is refused with 503 and Retry-After', async (t) => {
  small.app.ingestMemory.reserve('another key', 14_000)
  const response = await small.post(`[${recordOf(2000, 'q1')},${recordOf(2000, 'q2')},${recordOf(2000, 'q3')}]`)
  isProblem(t, response, 'overloaded')
  t.equal(response.headers['retry-after'], '1')
  t.equal((await small.get('/v1/records/size/q1')).status, 404)
  t.equal((await small.post(recordOf(2000, 'q4'))).status, 201, 'a body that fits is accepted')
  small.app.ingestMemory.release('another key', 14_000)
  t.equal((await small.post(recordOf(2000, 'q1'))).status, 201)
})

t.test('after any response, nothing stays reserved', async (t) => {
  for (const body of [
    recordOf(500, 'r1'),
    '{',
    '',
    '[]',
    '[5]',
    Buffer.from([0xff]),
    recordOf(2049, 'r2'),
    ' '.repeat(9000),
  ]) {
    await small.post(body)
    t.equal(small.app.ingestMemory.used, 0, String(body).slice(0, 20))
  }
})

t.test('a byte order mark before a body is ignored', async (t) => {
  t.equal((await post('\ufeff{"source":"s","type":"t","id":"mark"}')).status, 201)
  t.equal((await post(`\ufeff[{"source":"s","type":"t","data":"\ufeff"}]`)).status, 201)
  isProblem(t, await post('\ufeff'), 'invalid_json')
})

t.test('a body that is not UTF-8 is refused with the byte offset of the first invalid byte', async (t) => {
  for (const [bytes, offset] of [
    [[0xff], 0],
    [[0x22, 0x80, 0x22], 1],
    [[0x22, 0xc3, 0xa9, 0xc3, 0x22], 3],
    [[0x22, 0xef, 0xbf, 0xbd, 0xed, 0xa0, 0x80, 0x22], 4],
    [[0x22, 0xc0, 0x80, 0x22], 1],
    [[0x22, 0xf4, 0x90, 0x80, 0x80, 0x22], 1],
    [[0x22, 0x22, 0xf0, 0x9f, 0xa6], 2],
  ] as const) {
    const response = await post(Buffer.from(bytes))
    isProblem(t, response, 'invalid_utf8', { name: Buffer.from(bytes).toString('hex') })
    t.match(response.json.detail, `at byte offset ${offset}.`)
  }
})

t.test('the byte offset of the first invalid byte is right for any body', async (t) => {
  const isUtf8 = (bytes: Uint8Array, stream: boolean) => {
    try {
      new TextDecoder('utf-8', { fatal: true }).decode(bytes, { stream })
      return true
    } catch {
      return false
    }
  }
  const piece = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 4 }).map((text) => Buffer.from(text.toWellFormed())),
    fc.constant(Buffer.from('\ufffd')),
    fc.uint8Array({ minLength: 1, maxLength: 4 }).map((bytes) => Buffer.from(bytes)),
  )
  fc.assert(
    fc.property(fc.array(piece, { minLength: 1, maxLength: 6 }), (pieces) => {
      const bytes = Buffer.concat(pieces)
      if (bytes.length === 0 || isUtf8(bytes, false)) return true
      let message = ''
      try {
        decodeText(bytes)
      } catch (error) {
        message = (error as Error).message
      }
      // The longest prefix of complete characters.
      let end = bytes.length
      while (!isUtf8(bytes.subarray(0, end), false)) end--
      return message.includes(` at byte offset ${end}.`)
    }),
    { numRuns: 500 },
  )
  t.pass('500 bodies')
})

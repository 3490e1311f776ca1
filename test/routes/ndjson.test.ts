import { Buffer } from 'node:buffer'
import type { Socket } from 'node:net'
import { gzipSync } from 'node:zlib'
import { sql } from 'kysely'
import t from 'tap'
import { STREAM_BYTES } from '../../src/ingest/line-chunks.ts'
import { createApp, type TestApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { openClient } from '../helpers/http.ts'
import { isProblem } from '../helpers/problem.ts'
import { listen } from '../helpers/socket.ts'
import { until, untilStable } from '../helpers/until.ts'

const NDJSON = { 'content-type': 'application/x-ndjson' }
const server = await createApp(t)
const { post, get, makeKey } = server
const line = (source: string, id: string | number, more = '') => `{"source":"${source}","type":"t","id":"${id}"${more}}`
const lines = (source: string, from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, n) => `${line(source, from + n)}\n`).join('')

async function countOf({ database }: TestApp, source: string): Promise<number> {
  const db = connect(database.superUrl)
  const { rows } = await sql<{ n: number }>`SELECT count(*)::integer AS n FROM sluice.records WHERE source = ${source}`
    .execute(db)
    .finally(() => db.destroy())
  return rows[0]?.n as number
}

t.test('lines are accepted with each of their media types, and the response is a report', async (t) => {
  for (const [n, type] of [
    'application/x-ndjson',
    'application/ndjson',
    'application/jsonl',
    'Application/X-NDJSON; charset=utf-8',
  ].entries()) {
    const answer = await post(lines(`type${n}`, 1, 3), { 'content-type': type })
    t.equal(answer.status, 201, type)
    t.equal(answer.headers['content-type'], 'application/json; charset=utf-8')
    t.same(answer.json, {
      counts: { created: 3, duplicate: 0, conflict: 0, rejected: 0 },
      lines: 3,
      committedLines: 3,
      rejections: [],
      rejectionsOmitted: 0,
    })
    t.equal((await get(`/v1/records/type${n}/3`)).status, 200)
  }
  isProblem(
    t,
    await post(lines('x', 1, 1), { 'content-type': 'application/x-ndjson; charset=latin1' }),
    'unsupported_charset',
  )
})

t.test('CRLF, blank lines and a missing last newline are accepted; blank lines count in line numbers', async (t) => {
  const body = `${line('crlf', 1)}\r\n\r\n \t\r\n${line('crlf', 2)}\n\n{broken\r\n${line('crlf', 3)}`
  const answer = await post(body, NDJSON)
  t.equal(answer.status, 207)
  t.match(answer.json, {
    counts: { created: 3, rejected: 1 },
    lines: 7,
    committedLines: 7,
    rejections: [{ line: 6, pointer: '', code: 'invalid_json' }],
  })
  t.equal(answer.json.rejections.length, 1)
})

t.test('the payload of a line is kept to the last digit', async (t) => {
  const data = '{"big":12345678901234567890,"small":0.1000000000000000055,"text":"caf\u00e9 \u{1f980}"}'
  t.equal((await post(`${line('digits', 1, `,"data":${data}`)}\n`, NDJSON)).status, 201)
  t.match((await get('/v1/records/digits/1')).text, `"data":${data}`)
})

t.test('the status is 201 if a record is created, 200 if all are duplicates, 207 if some are refused', async (t) => {
  const body = lines('status', 1, 10)
  t.equal((await post(body, NDJSON)).status, 201)
  const again = await post(body, NDJSON)
  t.equal(again.status, 200)
  t.match(again.json.counts, { created: 0, duplicate: 10 })
  t.match((await post(lines('status', 9, 12), NDJSON)).json.counts, { created: 2, duplicate: 2 })
  const mixed = await post(`${line('status', 1)}\n{}\n${line('status', 2, ',"data":5')}\n`, NDJSON)
  t.equal(mixed.status, 207)
  t.match(mixed.json, {
    counts: { created: 0, duplicate: 1, conflict: 1, rejected: 1 },
    rejections: [
      { line: 2, pointer: '/source', code: 'required' },
      { line: 3, source: 'status', id: '2', pointer: '/id', code: 'conflict' },
    ],
  })
  for (const { detail } of mixed.json.rejections) t.match(detail, /\S/)
})

t.test('a line that is too long is refused with its number, and its neighbours are stored', async (t) => {
  const long = line('long', 2, `,"data":"${'x'.repeat(1024 * 1024)}"`)
  const answer = await post(`${line('long', 1)}\n${long}\n${line('long', 3)}`, NDJSON)
  t.equal(answer.status, 207)
  t.match(answer.json, { counts: { created: 2, rejected: 1 }, rejections: [{ line: 2, code: 'record_too_large' }] })
})

t.test('if all lines are rejected, the response is a problem with the report', async (t) => {
  const answer = await post('{}\n5\n{"source":"none","type":"t","id":5}', NDJSON)
  isProblem(t, answer, 'rejected')
  t.match(answer.json, {
    counts: { created: 0, rejected: 3 },
    lines: 3,
    committedLines: 3,
    rejections: [
      { line: 1, pointer: '/source', code: 'required' },
      { line: 2, pointer: '', code: 'wrong_type' },
      { line: 3, source: 'none', pointer: '/id', code: 'wrong_type' },
    ],
    rejectionsOmitted: 0,
  })
  await post(line('all', 1), NDJSON)
  isProblem(t, await post(line('all', 1, ',"data":1'), NDJSON), 'conflict')
  const { token } = await makeKey({ sourcePrefixes: ['mine/'] })
  isProblem(t, await post(lines('theirs', 1, 2), { ...NDJSON, authorization: `Bearer ${token}` }), 'source_forbidden')
})

t.test('the limits of a batch do not apply to lines', async (t) => {
  const many = await createApp(t, { MAX_BATCH_BYTES: '10240', MAX_BATCH_RECORDS: '5', MAX_RECORD_BYTES: '1024' })
  const answer = await many.post(lines('many', 1, 3000), NDJSON)
  t.equal(answer.status, 201)
  t.match(answer.json.counts, { created: 3000 })
  t.equal(await countOf(many, 'many'), 3000)
})

t.test('the Idempotency-Key gives an id to lines without one, so that they can be sent again', async (t) => {
  const body = '{"source":"idem","type":"t"}\n{"source":"idem","type":"t"}\n'
  const headers = { ...NDJSON, 'idempotency-key': 'lines' }
  t.match((await post(body, headers)).json.counts, { created: 2 })
  t.match((await post(body, headers)).json.counts, { duplicate: 2 })
  t.equal((await get('/v1/records/idem/lines.1')).status, 200)
})

t.test('handling=strict is refused for lines, and nothing is stored', async (t) => {
  const answer = await post(lines('strict', 1, 3), { ...NDJSON, prefer: 'handling=strict' })
  isProblem(t, answer, 'invalid_header')
  t.match(answer.json.detail, /strict.*array/)
  t.equal((await get('/v1/records/strict/1')).status, 404)
  t.equal((await post(lines('strict', 1, 3), { ...NDJSON, prefer: 'handling=lenient, return=minimal' })).status, 201)
})

// A compressed body was refused after its inflater had been opened, and then turned out to be damaged. The error had no listener
// and ended the process.
t.test('a damaged body of a refused request does no harm, and the connection can be used again', async (t) => {
  const client = openClient(t, await listen(server.app), server.key)
  const good = gzipSync(lines('damaged', 1, 5000))
  const damaged = Buffer.concat([good.subarray(0, 2000), Buffer.alloc(200_000, 7)])
  for (const [headers, code] of [
    [{ prefer: 'handling=strict' }, 'invalid_header'],
    [{ 'idempotency-key': '' }, 'invalid_header'],
  ] as const) {
    for (const body of [good, damaged]) {
      const answer = await client.send(
        'POST',
        '/v1/records',
        { ...NDJSON, 'content-encoding': 'gzip', ...headers },
        body,
      )
      isProblem(t, answer, code)
      t.equal((await client.send('GET', '/healthz')).status, 200)
    }
  }
  server.app.ingestMemory.reserve('another key', 64 * 1024 * 1024)
  t.teardown(() => server.app.ingestMemory.release('another key', 64 * 1024 * 1024))
  for (const body of [good, damaged]) {
    const answer = await client.send('POST', '/v1/records', { ...NDJSON, 'content-encoding': 'gzip' }, body)
    isProblem(t, answer, 'overloaded')
    t.equal(answer.headers['retry-after'], '1')
    t.equal((await client.send('GET', '/healthz')).status, 200)
  }
})

t.test('a stream releases its memory however it ends', async (t) => {
  for (const [body, headers] of [
    [lines('budget', 1, 10), {}],
    ['{}', {}],
    [gzipSync('{}').subarray(0, 10), { 'content-encoding': 'gzip' }],
    ['', {}],
  ] as const) {
    await server.post(body, { ...NDJSON, ...headers })
    t.equal(server.app.ingestMemory.used, 0, String(body).slice(0, 20))
  }
})

t.test('lines are stored while the body is still arriving', async (t) => {
  const client = openClient(t, await listen(server.app), server.key)
  const { request, answer } = client.open('POST', '/v1/records', NDJSON)
  request.write(lines('arriving', 1, 5000))
  await until('the first lines', async () => (await countOf(server, 'arriving')) >= 1000)
  request.end(lines('arriving', 5001, 5100))
  t.match((await answer).json, { counts: { created: 5100 }, committedLines: 5100 })
})

t.test('if a sender disconnects halfway, complete lines are stored; a second try stores the rest', async (t) => {
  const vanished = await createApp(t)
  const client = openClient(t, await listen(vanished.app), vanished.key)
  const file = `${lines('vanish', 1, 6000)}`
  const middle = file.indexOf('"id":"3777"') + 8
  const { request, answer } = client.open('POST', '/v1/records', { ...NDJSON, 'content-length': String(file.length) })
  request.write(file.slice(0, middle))
  await until('the first lines', async () => (await countOf(vanished, 'vanish')) >= 1000)
  request.destroy()
  await t.rejects(answer)
  await until('the end of the request', () => vanished.app.ingestMemory.used === 0)
  t.equal(await countOf(vanished, 'vanish'), 3776, 'all complete lines that arrived, and not the incomplete one')

  const again = openClient(t, await listen(vanished.app), vanished.key)
  const second = await again.send('POST', '/v1/records', NDJSON, file)
  t.equal(second.status, 201)
  t.match(second.json.counts, { created: 6000 - 3776, duplicate: 3776 })
  t.equal(await countOf(vanished, 'vanish'), 6000)
})

t.test('while the database is slow, the socket is paused, and no line is lost', async (t) => {
  const slow = await createApp(t)
  const sockets: Socket[] = []
  slow.app.server.on('connection', (socket) => void sockets.push(socket))
  const client = openClient(t, await listen(slow.app), slow.key)
  await client.send('GET', '/healthz')

  const db = connect(slow.database.superUrl, 2)
  t.teardown(() => db.destroy())
  const CHUNKS = 2000
  const chunk = (n: number) =>
    Buffer.from(
      Array.from({ length: 16 }, (_, m) => `${line('slow', `${n}.${m}`, `,"data":"${'x'.repeat(950)}"`)}\n`).join(''),
    )
  const total = CHUNKS * chunk(0).length
  const { sent, answer } = await db.transaction().execute(async (trx) => {
    await sql`LOCK TABLE sluice.records IN ACCESS EXCLUSIVE MODE`.execute(trx)
    const answer = client.send(
      'POST',
      '/v1/records',
      NDJSON,
      (function* () {
        for (let n = 0; n < CHUNKS; n++) yield chunk(n)
      })(),
    )
    answer.catch(() => {})
    const read = () => sockets[0]?.bytesRead as number
    await until('two flushes that wait for the lock', async () => {
      const { rows } = await sql<{ n: number }>`
        SELECT count(*)::integer AS n FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'sluice-write' AND wait_event_type = 'Lock'`.execute(
        db,
      )
      return rows[0]?.n === 2
    })
    const sent = await untilStable(read, () => sql`SELECT 1`.execute(db))
    return { sent, answer }
  })
  t.ok(sent < STREAM_BYTES + 1024 * 1024, `${sent} of ${total} bytes were read while nothing could be written`)
  t.match((await answer).json, { counts: { created: CHUNKS * 16 }, committedLines: CHUNKS * 16 })
  t.equal(await countOf(slow, 'slow'), CHUNKS * 16)
})

t.test('a single line is stored while its sender is idle', async (t) => {
  const client = openClient(t, await listen(server.app), server.key)
  const { request, answer } = client.open('POST', '/v1/records', NDJSON)
  for (const n of [1, 2]) {
    request.write(`${line('trickle', n)}\n`)
    await until(`line ${n}`, async () => (await get(`/v1/records/trickle/${n}`)).status === 200)
  }
  request.end()
  t.match((await answer).json, { counts: { created: 2 }, committedLines: 2 })
})

t.test('idle streams leave memory for others, and what they hold counts', async (t) => {
  const small = await createApp(t, { MAX_BATCH_BYTES: '1048576', QUEUE_MAX_BYTES: '4194304' })
  const port = await listen(small.app)
  const streams = Array.from({ length: 10 }, (_, n) => {
    const stream = openClient(t, port, small.key).open('POST', '/v1/records', NDJSON)
    stream.request.write(`${line('patient', n)}\n`)
    return stream
  })
  await until('a line of each', async () => (await countOf(small, 'patient')) === 10)
  t.equal((await small.post(line('other', 1))).status, 201)

  // A line without an end is held in memory. If it does not fit, its stream is refused.
  streams[0]?.request.write(line('patient', 'long', `,"data":"${'x'.repeat(900_000)}`))
  await until('its bytes to be reserved', () => small.app.ingestMemory.used > 1_400_000)
  streams[1]?.request.write(line('patient', 'long', `,"data":"${'x'.repeat(900_000)}`))
  isProblem(t, await (streams[1]?.answer as Promise<never>), 'overloaded', { outcome: 'unknown' })
  for (const { request } of streams) request.end()
  const answers = await Promise.all(streams.map(({ answer }) => answer))
  // The first stream ends in the middle of its long line: 207. The second one was refused. The others are stored.
  t.same(answers.map(({ status }) => status).sort(), [...Array(8).fill(201), 207, 503])
  t.equal(small.app.ingestMemory.used, 0)
})

t.test('if the database fails midway, the problem has the report, and the connection can be used again', async (t) => {
  const failing = await createApp(t)
  const client = openClient(t, await listen(failing.app), failing.key)
  const { request, answer } = client.open('POST', '/v1/records', NDJSON)
  request.write(lines('failing', 1, 2500))
  await until('the first lines', async () => (await countOf(failing, 'failing')) >= 1000)
  const db = connect(failing.database.superUrl)
  await sql`REVOKE INSERT ON sluice.records FROM PUBLIC, sluice_api`.execute(db)
  request.end(lines('failing', 2501, 9000))
  const broken = await answer
  isProblem(t, broken, 'internal_error', { outcome: 'unknown' })
  const stored = await countOf(failing, 'failing')
  t.match(broken.json, { counts: { created: stored }, committedLines: stored, rejections: [] })
  t.ok(stored < 9000)
  await sql`GRANT INSERT ON sluice.records TO sluice_api`.execute(db)
  await db.destroy()
  const again = await client.send('POST', '/v1/records', NDJSON, lines('failing', 1, 9000))
  t.match(again.json.counts, { created: 9000 - stored, duplicate: stored })
})

import { once } from 'node:events'
import { connect as open, type Socket } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { createApp, type TestApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { isProblem } from '../helpers/problem.ts'
import { exchange, head, listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

const server = await createApp(t, { STALL_SECONDS: '1' })
const port = await listen(server.app)
const authorization = `Bearer ${server.key}`
const lines = (source: string, count: number) =>
  Array.from({ length: count }, (_, id) => `{"source":"${source}","type":"t","id":"${id}"}\n`).join('')

const post = (headers: Record<string, string>) =>
  head('POST', '/v1/records', { Authorization: authorization, ...headers })

/** A connection that the test sends on, and looks at what comes. */
async function dial(t: Test, toPort = port) {
  const socket = open(toPort, '127.0.0.1')
  t.teardown(() => socket.destroy())
  // Not once(), which rejects when the server resets it.
  const closed = new Promise((resolve) => socket.on('error', () => {}).on('close', resolve))
  await once(socket, 'connect')
  return { socket, closed }
}

async function stored({ database }: TestApp, source: string): Promise<number> {
  const db = connect(database.superUrl)
  const { rows } = await sql<{ n: number }>`SELECT count(*)::integer AS n FROM sluice.records WHERE source = ${source}`
    .execute(db)
    .finally(() => db.destroy())
  return rows[0]?.n as number
}

t.test('a body of which nothing comes any more is 408, and what was reserved for it is given back', async (t) => {
  const bodies: [string, Record<string, string>, string | Buffer][] = [
    ['nothing', { 'Content-Length': '1000' }, ''],
    ['a beginning', { 'Content-Length': '1000' }, '[{"source":'],
    ['chunked', { 'Transfer-Encoding': 'chunked' }, '5\r\n[{"so'],
    ['compressed', { 'Content-Length': '1000', 'Content-Encoding': 'gzip' }, gzipSync('[]').subarray(0, 12)],
  ]
  await Promise.all(
    bodies.map(async ([name, headers, body]) => {
      const answer = await exchange(port, post({ 'Content-Type': 'application/json', ...headers }), body)
      isProblem(t, answer, 'request_timeout', { name })
      t.equal(answer.headers.connection, 'close', name)
    }),
  )
  t.equal(server.app.budget.used, 0)
})

t.test('lines of which nothing comes any more are 408; those that came are stored, and counted', async (t) => {
  for (const [source, encoding] of [
    ['stalled', {}],
    ['stalled-gzip', { 'Content-Encoding': 'gzip' }],
  ] as const) {
    const whole = `${lines(source, 2500)}{"source":"half`
    // Cut off before the end of the compressed data, which the last bytes are.
    const body = 'Content-Encoding' in encoding ? gzipSync(whole).subarray(0, -8) : Buffer.from(whole)
    const headers = { 'Content-Type': 'application/x-ndjson', 'Content-Length': '1000000', ...encoding }
    const answer = await exchange(port, post(headers), body)
    isProblem(t, answer, 'request_timeout', { outcome: 'unknown', name: source })
    t.match(answer.json, { counts: { created: 2500, rejected: 0 }, lines: 2500, committedLines: 2500 })
    t.equal(await stored(server, source), 2500)
    t.equal(server.app.budget.used, 0)
  }
})

t.test('a sender who is slow, and never still, is not cut off', async (t) => {
  const { socket } = await dial(t)
  const body = lines('slow', 12)
  socket.write(post({ 'Content-Type': 'application/x-ndjson', 'Content-Length': String(body.length) }))
  const began = performance.now()
  const answer = once(socket, 'data')
  // Twice as long as one may stand still.
  for (let at = 0; at < body.length; at += 64) {
    socket.write(body.slice(at, at + 64))
    const next = ((at + 64) / body.length) * 2200
    await until('time to pass', () => performance.now() - began >= next)
  }
  t.match(String(await answer), /^HTTP\/1\.1 201 /)
})

/** Sends so many bytes of a body every tenth of a second. @returns what the answer begins with, and when it came */
async function drip(t: Test, type: string, announced: number, bytes: number) {
  const { socket } = await dial(t)
  const began = performance.now()
  socket.write(post({ 'Content-Type': type, 'Content-Length': String(announced) }))
  const dripping = setInterval(() => socket.write(' '.repeat(bytes)), 100)
  t.teardown(() => clearInterval(dripping))
  const [answer] = await once(socket, 'data')
  clearInterval(dripping)
  return { status: Number(String(answer).slice(9, 12)), seconds: (performance.now() - began) / 1000 }
}

// Four of them held the whole queue for as long as they liked.
t.test(
  'a body that comes more slowly than 500 bytes per second is 408, and gives back what it announced',
  async (t) => {
    const [crumbs, slow] = await Promise.all([
      drip(t, 'application/json', 16 * 1024 * 1024, 1),
      // Four fifths of the rate: the second of grace lasts for five.
      drip(t, 'application/json', 1024 * 1024, 40),
    ])
    t.match(crumbs, { status: 408 })
    t.match(slow, { status: 408 })
    t.ok(crumbs.seconds >= 1 && slow.seconds >= 1, `${crumbs.seconds} s and ${slow.seconds} s`)
    await until('the budget', () => server.app.budget.used === 0)
  },
)

t.test('a body that is slow, and faster than that, is read to its end, however long it takes', async (t) => {
  // Three times as long as one may stand still, at twice the rate.
  const { status, seconds } = await drip(t, 'application/json', 3000, 100)
  t.equal(status, 400, 'blanks are no JSON')
  t.ok(seconds > 2, `${seconds} s`)
})

t.test('lines that wait for the database are not cut off, however long it takes', async (t) => {
  const db = connect(server.database.superUrl)
  t.teardown(() => db.destroy())
  // More than what is handed to the writer and read ahead.
  const body = Buffer.from(Array.from({ length: 20 }, (_, n) => lines(`waiting${n}`, 1000)).join(''))
  const { socket } = await dial(t)
  const [headers, answer] = [
    { 'Content-Type': 'application/x-ndjson', 'Content-Length': String(body.length) },
    once(socket, 'data'),
  ]
  const began = performance.now()
  await db.transaction().execute(async (trx) => {
    await sql`LOCK TABLE sluice.records IN ACCESS EXCLUSIVE MODE`.execute(trx)
    socket.write(post(headers))
    socket.write(body)
    await until('several times the limit', () => performance.now() - began > 2500)
  })
  t.match(String(await answer), /^HTTP\/1\.1 201 /)
})

t.test('a request that waits for the database is not cut off', async (t) => {
  const db = connect(server.database.superUrl)
  t.teardown(() => db.destroy())
  const { socket, closed } = await dial(t)
  const answer = once(socket, 'data')
  const began = performance.now()
  await db.transaction().execute(async (trx) => {
    await sql`LOCK TABLE sluice.records IN ACCESS EXCLUSIVE MODE`.execute(trx)
    const body = lines('waits', 1)
    socket.write(post({ 'Content-Type': 'application/json', 'Content-Length': String(body.length) }) + body)
    await until('several times the limit', () => performance.now() - began > 2500)
  })
  t.match(String(await answer), /^HTTP\/1\.1 201 /)
  socket.destroy()
  await closed
})

t.test('headers that do not come to an end are 408, also when a byte comes now and then', async (t) => {
  const { socket, closed } = await dial(t)
  let received = ''
  socket.on('data', (bytes) => {
    received += bytes
  })
  socket.write('GET /healthz HTTP/1.1\r\nHost: sluice\r\nX-Slow: ')
  const dripping = setInterval(() => socket.write('x'), 200)
  t.teardown(() => clearInterval(dripping))
  await closed
  t.match(received, /^HTTP\/1\.1 408 Request Timeout\r\n/)
  const [, document = ''] = received.split('\r\n\r\n')
  t.match(JSON.parse(document), { code: 'request_timeout', status: 408, retryable: true })
})

t.test('a connection between two requests stays, and works', async (t) => {
  const { socket } = await dial(t)
  const ask = async () => {
    socket.write(head('GET', '/healthz'))
    return String((await once(socket, 'data'))[0])
  }
  t.match(await ask(), /^HTTP\/1\.1 200 /)
  const began = performance.now()
  await until('several times the limit', () => performance.now() - began > 2500)
  t.match(await ask(), /^HTTP\/1\.1 200 /)
})

t.test('a connection that is asked nothing more is closed when its time is over', async (t) => {
  const own = await createApp(t, { STALL_SECONDS: '3' })
  const { socket, closed } = await dial(t, await listen(own.app))
  // Node adds a second to it.
  own.app.server.keepAliveTimeout = 10
  socket.resume().write(head('GET', '/healthz'))
  await closed
})

t.test('a body that came while the process itself stood still is read', async (t) => {
  const { socket } = await dial(t)
  const body = lines('frozen', 1)
  const answer = once(socket, 'data')
  socket.write(post({ 'Content-Type': 'application/json', 'Content-Length': String(body.length) }))
  await until('it to be read', () => server.app.budget.used > 0)
  socket.write(body.slice(0, 10))
  for (const end = performance.now() + 1500; performance.now() < end; );
  // Timers come first, then what has arrived, then this.
  await nextTurn()
  socket.write(body.slice(10))
  t.match(String(await answer), /^HTTP\/1\.1 201 /)
})

/** Asks for an export of 40 MB, of which the kernels hold a few, and takes nothing of it. @returns the server's side */
async function stall(t: Test, { app, database, key }: TestApp): Promise<Socket> {
  const db = connect(database.superUrl)
  await sql`
    INSERT INTO sluice.records (epoch, n, source, id, type, data)
    SELECT 1, n, 'export', n, 't', to_json(repeat('x', 20000)) FROM generate_series(1, 2000) AS n`
    .execute(db)
    .finally(() => db.destroy())
  const connections: Socket[] = []
  app.server.on('connection', (socket) => void connections.push(socket))
  const { socket } = await dial(t, await listen(app))
  socket.pause()
  socket.write(head('GET', '/v1/records', { Authorization: `Bearer ${key}`, Accept: 'application/x-ndjson' }))
  await until('the answer to be stuck', () => (connections[0]?.writableLength ?? 0) > 0)
  return connections[0] as Socket
}

t.test('a reader who takes nothing of an export holds no connection to the database', async (t) => {
  const patient = await createApp(t)
  const theirs = await stall(t, patient)
  const db = connect(patient.database.superUrl)
  t.teardown(() => db.destroy())
  await until('the database to be left alone', async () => {
    const { rows } = await sql`
      SELECT FROM pg_stat_activity
      WHERE datname = current_database() AND application_name = 'sluice-list'
        AND (state <> 'idle' OR xact_start IS NOT NULL OR backend_xmin IS NOT NULL)`.execute(db)
    return rows.length === 0
  })
  t.notOk(theirs.destroyed)
  t.ok(theirs.writableLength > 0, 'it is stuck still')
})

t.test('a reader who takes nothing of an export is cut off', async (t) => {
  const strict = await createApp(t, { STALL_SECONDS: '1' })
  const theirs = await stall(t, strict)
  await until('the end of the connection', () => theirs.destroyed)
  t.equal(strict.logs.filter(({ msg }) => String(msg).startsWith('a reader took no byte')).length, 1)
})

t.test('a sender who never reads its answer gives back what was reserved for it', async (t) => {
  // With room for all of them.
  const own = await createApp(t, { STALL_SECONDS: '1', QUEUE_MAX_BYTES: String(512 * 1024 * 1024) })
  const connections: Socket[] = []
  own.app.server.on('connection', (socket) => void connections.push(socket))
  const { socket, closed } = await dial(t, await listen(own.app))
  socket.pause()
  // The answers of thirty such batches are more than what the two kernels hold.
  const body = JSON.stringify(
    Array.from({ length: 2000 }, (_, id) => ({ source: 'x'.repeat(400), type: 't', id: String(id) })),
  )
  const headers = {
    Authorization: `Bearer ${own.key}`,
    'Content-Type': 'application/json',
    'Content-Length': String(body.length),
  }
  for (let times = 0; times < 30; times++) socket.write(head('POST', '/v1/records', headers) + body)
  await until('the answers to be stuck', () => (connections[0]?.writableLength ?? 0) > 0)
  await until('the end of its connection', () => connections[0]?.destroyed)
  await until('the budget', () => own.app.budget.used === 0)
  socket.resume()
  await closed
})

import { once } from 'node:events'
import { connect as open, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import Fastify from 'fastify'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { loadConfig } from '../../src/config.ts'
import timeouts from '../../src/plugins/timeouts.ts'
import { createApp, type TestApp } from '../helpers/app.ts'
import { stopClock } from '../helpers/clock.ts'
import { connect } from '../helpers/connect.ts'
import { isProblem } from '../helpers/problem.ts'
import { exchange, head, listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

/** The shortest timeout. A test that expects no timeout must not depend on it: the machine may pause for longer. */
const server = await createApp(t, { STALL_SECONDS: '1' })
const port = await listen(server.app)
/** The server's side of each connection. */
const connections: Socket[] = []
server.app.server.on('connection', (socket) => void connections.push(socket))
const authorization = `Bearer ${server.key}`
const lines = (source: string, count: number) =>
  Array.from({ length: count }, (_, id) => `{"source":"${source}","type":"t","id":"${id}"}\n`).join('')

const post = (headers: Record<string, string>) =>
  head('POST', '/v1/records', { Authorization: authorization, ...headers })

/** A connection on which the test sends bytes and sees what arrives. */
async function dial(t: Test, toPort = port) {
  const socket = open(toPort, '127.0.0.1')
  t.teardown(() => socket.destroy())
  let received = ''
  socket.on('data', (bytes) => {
    received += bytes
  })
  // Not once(), which rejects when the server resets the connection.
  const closed = new Promise((resolve) => socket.on('error', () => {}).on('close', resolve))
  await once(socket, 'connect')
  /** The statuses that have arrived. */
  const statuses = () => [...received.matchAll(/HTTP\/1\.1 (\d+) /g)].map(([, status]) => Number(status))
  return {
    socket,
    closed,
    received: () => received,
    statuses,
    answered: (count = 1) => until('a response', () => statuses().length === count || socket.destroyed),
  }
}

/** The server's side of a connection. */
const peerOf = ({ localPort }: Socket) =>
  until('the connection', () => connections.findLast(({ remotePort }) => remotePort === localPort))

/** Waits until a connection has been idle for two timeouts. */
async function untilTwoTimeouts(socket: Socket): Promise<void> {
  for (let times = 0; times < 2; times++) await once(socket, 'timeout')
}

async function stored({ database }: TestApp, source: string): Promise<number> {
  const db = connect(database.superUrl)
  const { rows } = await sql<{ n: number }>`SELECT count(*)::integer AS n FROM sluice.records WHERE source = ${source}`
    .execute(db)
    .finally(() => db.destroy())
  return rows[0]?.n as number
}

t.test('a body that stalls is 408, and its memory is released', async (t) => {
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
  t.equal(server.app.ingestMemory.used, 0)
})

t.test('a stream of lines that stalls is 408, and the lines that arrived are stored and counted', async (t) => {
  const senders = [
    ['stalled', {}],
    ['stalled-gzip', { 'Content-Encoding': 'gzip' }],
  ] as const
  const stall = async ([source, encoding]: (typeof senders)[number]) => {
    const whole = `${lines(source, 2500)}{"source":"half`
    // Without the last bytes, which mark the end of the compressed data.
    const body = 'Content-Encoding' in encoding ? gzipSync(whole).subarray(0, -8) : Buffer.from(whole)
    const headers = { 'Content-Type': 'application/x-ndjson', 'Content-Length': '1000000', ...encoding }
    const answer = await exchange(port, post(headers), body)
    isProblem(t, answer, 'request_timeout', { outcome: 'unknown', name: source })
    t.match(answer.json, { counts: { created: 2500, rejected: 0 }, lines: 2500, committedLines: 2500 })
    t.equal(await stored(server, source), 2500)
  }
  await Promise.all(senders.map(stall))
  t.equal(server.app.ingestMemory.used, 0)
})

t.test('a sender that is slow but never stalls is not cut off', async (t) => {
  const { socket, statuses, answered } = await dial(t)
  const body = lines('slow', 2)
  socket.write(post({ 'Content-Type': 'application/x-ndjson', 'Content-Length': String(body.length) }))
  // Longer than a sender may stall. If the process pauses, this timer fires before the server's, and the server finds the byte
  // that it wrote.
  for (const byte of body) {
    socket.write(byte)
    await sleep(20)
  }
  await answered()
  t.same(statuses(), [201])
})

// Four such bodies held the memory of the whole queue for any length of time.
t.test('a body that arrives too slowly is 408, and its memory is released', async (t) => {
  const { socket, statuses, answered } = await dial(t)
  const headers = { 'Content-Type': 'application/json', 'Content-Length': String(16 * 1024 * 1024) }
  const began = performance.now()
  socket.write(post(headers))
  const dripping = setInterval(() => socket.write(' '), 100)
  t.teardown(() => clearInterval(dripping))
  await answered()
  t.same(statuses(), [408])
  t.ok(performance.now() - began >= 1000)
  await until('its memory to be released', () => server.app.ingestMemory.used === 0)
})

/** Sends a hundred pieces of a body, one in each tenth of a second. @returns how many are read */
async function drip(t: Test, bytes: number): Promise<number> {
  const clock = stopClock(t)
  const app = Fastify()
  t.teardown(() => app.close())
  app.decorate('config', loadConfig({ STALL_SECONDS: '1' }))
  await app.register(timeouts)
  // The test does not control the clock of the connections.
  app.server.setTimeout(0)
  let [received, begun, over] = [0, false, false]
  app.addContentTypeParser('application/json', (_request, body, done) => {
    const stop = app.watchRate(body)
    begun = true
    const end = (error?: Error & { code?: string }) => {
      over = true
      stop()
      done(error?.code === 'request_timeout' ? null : (error ?? null))
    }
    body.once('error', end).once('end', end)
    body.on('data', ({ length }) => {
      received += length
    })
  })
  app.post('/', async () => '')
  const { socket, statuses, answered } = await dial(t, await listen(app))
  socket.write(head('POST', '/', { 'Content-Type': 'application/json', 'Content-Length': String(100 * bytes) }))
  await until('the handler to wait for the body', () => begun)
  let pieces = 0
  while (!over) {
    socket.write(' '.repeat(bytes))
    pieces++
    await until('a piece to be read', () => received === pieces * bytes)
    for (let hundredth = 0; hundredth < 10; hundredth++) await clock.tick(10)
  }
  await answered()
  t.same(statuses(), [200])
  return pieces
}

t.test('a body that arrives more slowly than 500 bytes per second is cut off', async (t) => {
  // After the first second, which is free, and the milliseconds that these bytes add.
  await t.test('one byte at a time', async (t) => t.equal(await drip(t, 1), 11))
  // At four fifths of the rate, the free second lasts for five.
  await t.test('nearly at the rate', async (t) => t.equal(await drip(t, 40), 51))
})

t.test('a slow body that is faster than 500 bytes per second is read to its end', async (t) => {
  t.equal(await drip(t, 60), 100)
})

t.test('lines that wait for the database are not cut off after STALL_SECONDS', async (t) => {
  const db = connect(server.database.superUrl)
  t.teardown(() => db.destroy())
  // More than the writer takes and the stream reads ahead.
  const body = Buffer.from(Array.from({ length: 20 }, (_, n) => lines(`waiting${n}`, 1000)).join(''))
  const { socket, statuses, answered } = await dial(t)
  await db.transaction().execute(async (trx) => {
    await sql`LOCK TABLE sluice.records IN ACCESS EXCLUSIVE MODE`.execute(trx)
    socket.write(post({ 'Content-Type': 'application/x-ndjson', 'Content-Length': String(body.length) }))
    socket.write(body)
    await untilTwoTimeouts(await peerOf(socket))
  })
  await answered()
  t.same(statuses(), [201])
})

t.test('a request that waits for the database is not cut off after STALL_SECONDS', async (t) => {
  const db = connect(server.database.superUrl)
  t.teardown(() => db.destroy())
  const { socket, statuses, answered } = await dial(t)
  await db.transaction().execute(async (trx) => {
    await sql`LOCK TABLE sluice.records IN ACCESS EXCLUSIVE MODE`.execute(trx)
    const body = lines('waits', 1)
    socket.write(post({ 'Content-Type': 'application/json', 'Content-Length': String(body.length) }) + body)
    await untilTwoTimeouts(await peerOf(socket))
  })
  await answered()
  t.same(statuses(), [201])
})

t.test('headers without an end are 408, even if bytes still arrive; an idle connection stays open', async (t) => {
  const idle = await dial(t)
  idle.socket.write(head('GET', '/healthz'))
  await idle.answered()

  // The check that cuts off this connection would also find the idle one, which is older.
  const { socket, closed, received } = await dial(t)
  socket.write('GET /healthz HTTP/1.1\r\nHost: sluice\r\nX-Slow: ')
  const dripping = setInterval(() => socket.write('x'), 200)
  t.teardown(() => clearInterval(dripping))
  await closed
  t.match(received(), /^HTTP\/1\.1 408 Request Timeout\r\n/)
  const [, document = ''] = received().split('\r\n\r\n')
  t.match(JSON.parse(document), { code: 'request_timeout', status: 408, retryable: true })

  idle.socket.write(head('GET', '/healthz'))
  await idle.answered(2)
  t.same(idle.statuses(), [200, 200])
})

t.test('a connection without further requests is closed after its keep-alive timeout', async (t) => {
  const own = await createApp(t, { STALL_SECONDS: '3' })
  const { socket, closed } = await dial(t, await listen(own.app))
  // Node.js adds a second to it.
  own.app.server.keepAliveTimeout = 10
  socket.resume().write(head('GET', '/healthz'))
  await closed
})

t.test('a body that arrives while the process is paused is read', async (t) => {
  const patient = await createApp(t, { STALL_SECONDS: '60' })
  patient.app.server.on('connection', (socket) => void connections.push(socket))
  const { socket, statuses, answered } = await dial(t, await listen(patient.app))
  const body = lines('frozen', 1)
  const headers = { 'Content-Type': 'application/json', 'Content-Length': String(body.length) }
  socket.write(head('POST', '/v1/records', { Authorization: `Bearer ${patient.key}`, ...headers }))
  await until('the head to be read', () => patient.app.ingestMemory.used > 0)
  const theirs = await peerOf(socket)
  socket.write(body.slice(0, 10))
  // After a pause, Node.js runs its timers first and then reads what has arrived.
  theirs.emit('timeout')
  await until('the beginning to be read', () => theirs.bytesRead > post(headers).length || statuses().length > 0)
  socket.write(body.slice(10))
  await answered()
  t.same(statuses(), [201])
})

/** Requests an export of 40 MB, more than the kernels buffer, and does not read it. @returns the server's side */
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
  await until('the response to be stuck', () => (connections[0]?.writableLength ?? 0) > 0)
  return connections[0] as Socket
}

t.test('a stalled reader of an export holds no database connection', async (t) => {
  const patient = await createApp(t)
  const theirs = await stall(t, patient)
  const db = connect(patient.database.superUrl)
  t.teardown(() => db.destroy())
  await until('the connections for lists to be idle', async () => {
    const { rows } = await sql`
      SELECT FROM pg_stat_activity
      WHERE datname = current_database() AND application_name = 'sluice-list'
        AND (state <> 'idle' OR xact_start IS NOT NULL OR backend_xmin IS NOT NULL)`.execute(db)
    return rows.length === 0
  })
  t.notOk(theirs.destroyed)
  t.ok(theirs.writableLength > 0, 'the response is still stuck')
})

t.test('a stalled reader of an export is cut off', async (t) => {
  const strict = await createApp(t, { STALL_SECONDS: '1' })
  const theirs = await stall(t, strict)
  await until('the end of the connection', () => theirs.destroyed)
  t.equal(strict.logs.filter(({ msg }) => String(msg).startsWith('a client has not read')).length, 1)
})

t.test('a sender that does not read its responses is cut off, and their memory is released', async (t) => {
  // Enough memory for all of these batches.
  const own = await createApp(t, { STALL_SECONDS: '1', QUEUE_MAX_BYTES: String(512 * 1024 * 1024) })
  const connections: Socket[] = []
  own.app.server.on('connection', (socket) => void connections.push(socket))
  const { socket, closed } = await dial(t, await listen(own.app))
  socket.pause()
  // The responses to thirty such batches are more than the two kernels buffer.
  const body = JSON.stringify(
    Array.from({ length: 2000 }, (_, id) => ({ source: 'x'.repeat(400), type: 't', id: String(id) })),
  )
  const headers = {
    Authorization: `Bearer ${own.key}`,
    'Content-Type': 'application/json',
    'Content-Length': String(body.length),
  }
  for (let times = 0; times < 30; times++) socket.write(head('POST', '/v1/records', headers) + body)
  await until('the responses to be stuck', () => (connections[0]?.writableLength ?? 0) > 0)
  await until('the end of the connection', () => connections[0]?.destroyed)
  await until('its memory to be released', () => own.app.ingestMemory.used === 0)
  socket.resume()
  await closed
})

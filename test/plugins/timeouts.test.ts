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

/** The shortest there is. A test that expects no timeout must not depend on it: the machine may pause for longer. */
const server = await createApp(t, { STALL_SECONDS: '1' })
const port = await listen(server.app)
/** The server's side of the connections. */
const connections: Socket[] = []
server.app.server.on('connection', (socket) => void connections.push(socket))
const authorization = `Bearer ${server.key}`
const lines = (source: string, count: number) =>
  Array.from({ length: count }, (_, id) => `{"source":"${source}","type":"t","id":"${id}"}\n`).join('')

const post = (headers: Record<string, string>) =>
  head('POST', '/v1/records', { Authorization: authorization, ...headers })

/** A connection that the test sends on, and looks at what comes. */
async function dial(t: Test, toPort = port) {
  const socket = open(toPort, '127.0.0.1')
  t.teardown(() => socket.destroy())
  let received = ''
  socket.on('data', (bytes) => {
    received += bytes
  })
  // Not once(), which rejects when the server resets it.
  const closed = new Promise((resolve) => socket.on('error', () => {}).on('close', resolve))
  await once(socket, 'connect')
  /** The statuses that have come. */
  const statuses = () => [...received.matchAll(/HTTP\/1\.1 (\d+) /g)].map(([, status]) => Number(status))
  return {
    socket,
    closed,
    received: () => received,
    statuses,
    answered: (count = 1) => until('an answer', () => statuses().length === count || socket.destroyed),
  }
}

/** The server's side of a connection. */
const peerOf = ({ localPort }: Socket) =>
  until('the connection', () => connections.findLast(({ remotePort }) => remotePort === localPort))

/** Waits until a connection has stood still for twice as long as it may. */
async function standStill(socket: Socket): Promise<void> {
  for (let times = 0; times < 2; times++) await once(socket, 'timeout')
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
  t.equal(server.app.ingestMemory.used, 0)
})

t.test('lines of which nothing comes any more are 408; those that came are stored, and counted', async (t) => {
  const senders = [
    ['stalled', {}],
    ['stalled-gzip', { 'Content-Encoding': 'gzip' }],
  ] as const
  const stall = async ([source, encoding]: (typeof senders)[number]) => {
    const whole = `${lines(source, 2500)}{"source":"half`
    // Cut off before the end of the compressed data, which the last bytes are.
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

t.test('a sender who is slow, and never still, is not cut off', async (t) => {
  const { socket, statuses, answered } = await dial(t)
  const body = lines('slow', 2)
  socket.write(post({ 'Content-Type': 'application/x-ndjson', 'Content-Length': String(body.length) }))
  // Longer than one may stand still. If the process pauses, this timer is due before the server's, and what it writes is
  // there when the server looks.
  for (const byte of body) {
    socket.write(byte)
    await sleep(20)
  }
  await answered()
  t.same(statuses(), [201])
})

// Four of them held the whole queue for as long as they liked.
t.test('a body that comes too slowly is 408, and gives back what it announced', async (t) => {
  const { socket, statuses, answered } = await dial(t)
  const headers = { 'Content-Type': 'application/json', 'Content-Length': String(16 * 1024 * 1024) }
  const began = performance.now()
  socket.write(post(headers))
  const dripping = setInterval(() => socket.write(' '), 100)
  t.teardown(() => clearInterval(dripping))
  await answered()
  t.same(statuses(), [408])
  t.ok(performance.now() - began >= 1000)
  await until('the budget', () => server.app.ingestMemory.used === 0)
})

/** Sends a hundred pieces of a body, one at the beginning of each tenth of a second. @returns how many are read */
async function drip(t: Test, bytes: number): Promise<number> {
  const clock = stopClock(t)
  const app = Fastify()
  t.teardown(() => app.close())
  app.decorate('config', loadConfig({ STALL_SECONDS: '1' }))
  await app.register(timeouts)
  // The clock of the connections is a real one.
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
  await until('the body to be awaited', () => begun)
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

t.test('a body that comes more slowly than 500 bytes per second is cut off', async (t) => {
  // After the second that nobody has to earn, and the milliseconds that these bytes are worth.
  await t.test('a byte now and then', async (t) => t.equal(await drip(t, 1), 11))
  // Four fifths of the rate: that second lasts for five.
  await t.test('nearly that fast', async (t) => t.equal(await drip(t, 40), 51))
})

t.test('a body that is slow, and faster than that, is read to its end, however long it takes', async (t) => {
  t.equal(await drip(t, 60), 100)
})

t.test('lines that wait for the database are not cut off, however long it takes', async (t) => {
  const db = connect(server.database.superUrl)
  t.teardown(() => db.destroy())
  // More than what is handed to the writer and read ahead.
  const body = Buffer.from(Array.from({ length: 20 }, (_, n) => lines(`waiting${n}`, 1000)).join(''))
  const { socket, statuses, answered } = await dial(t)
  await db.transaction().execute(async (trx) => {
    await sql`LOCK TABLE sluice.records IN ACCESS EXCLUSIVE MODE`.execute(trx)
    socket.write(post({ 'Content-Type': 'application/x-ndjson', 'Content-Length': String(body.length) }))
    socket.write(body)
    await standStill(await peerOf(socket))
  })
  await answered()
  t.same(statuses(), [201])
})

t.test('a request that waits for the database is not cut off', async (t) => {
  const db = connect(server.database.superUrl)
  t.teardown(() => db.destroy())
  const { socket, statuses, answered } = await dial(t)
  await db.transaction().execute(async (trx) => {
    await sql`LOCK TABLE sluice.records IN ACCESS EXCLUSIVE MODE`.execute(trx)
    const body = lines('waits', 1)
    socket.write(post({ 'Content-Type': 'application/json', 'Content-Length': String(body.length) }) + body)
    await standStill(await peerOf(socket))
  })
  await answered()
  t.same(statuses(), [201])
})

t.test(
  'headers that do not come to an end are 408, also when a byte comes now and then; a connection between two requests stays',
  async (t) => {
    const idle = await dial(t)
    idle.socket.write(head('GET', '/healthz'))
    await idle.answered()

    // It is cut off by the look at all connections that would find the other one as well, which is older.
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
  },
)

t.test('a connection that is asked nothing more is closed when its time is over', async (t) => {
  const own = await createApp(t, { STALL_SECONDS: '3' })
  const { socket, closed } = await dial(t, await listen(own.app))
  // Node adds a second to it.
  own.app.server.keepAliveTimeout = 10
  socket.resume().write(head('GET', '/healthz'))
  await closed
})

t.test('a body that came while the process itself stood still is read', async (t) => {
  const patient = await createApp(t, { STALL_SECONDS: '60' })
  patient.app.server.on('connection', (socket) => void connections.push(socket))
  const { socket, statuses, answered } = await dial(t, await listen(patient.app))
  const body = lines('frozen', 1)
  const headers = { 'Content-Type': 'application/json', 'Content-Length': String(body.length) }
  socket.write(head('POST', '/v1/records', { Authorization: `Bearer ${patient.key}`, ...headers }))
  await until('it to be read', () => patient.app.ingestMemory.used > 0)
  const theirs = await peerOf(socket)
  socket.write(body.slice(0, 10))
  // Node.js looks at its timers first, and then reads what has arrived.
  theirs.emit('timeout')
  await until('the beginning to be read', () => theirs.bytesRead > post(headers).length || statuses().length > 0)
  socket.write(body.slice(10))
  await answered()
  t.same(statuses(), [201])
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
  t.equal(strict.logs.filter(({ msg }) => String(msg).startsWith('a client has not read')).length, 1)
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
  await until('the budget', () => own.app.ingestMemory.used === 0)
  socket.resume()
  await closed
})

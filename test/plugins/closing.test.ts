import { once } from 'node:events'
import { connect as open, type Socket } from 'node:net'
import { mock } from 'node:test'
import { gzipSync } from 'node:zlib'
import type { FastifyInstance } from 'fastify'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { createApp } from '../helpers/app.ts'
import { stopTimers } from '../helpers/clock.ts'
import { connect } from '../helpers/connect.ts'
import { openClient } from '../helpers/http.ts'
import { untilBlocked } from '../helpers/locks.ts'
import { isProblem } from '../helpers/problem.ts'
import { head, listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

/** How often a closing server checks its uploads. */
const LOOK_MS = 50
/** How long it waits until the responses to the uploads that it has ended are sent. */
const LAST_ANSWERS_MS = 5_000
const NDJSON = { 'content-type': 'application/x-ndjson' }
const line = (source: string, id: string | number) => `{"source":"${source}","type":"t","id":"${id}"}\n`
const lines = (source: string, count: number) => Array.from({ length: count }, (_, n) => line(source, n)).join('')

async function start(t: Test, settings: Record<string, string>) {
  // A busy machine must not shed requests here.
  const server = await createApp(t, { SHED_INGEST_SECONDS: '60', SHED_READ_SECONDS: '60', ...settings })
  const port = await listen(server.app)
  const root = connect(server.database.superUrl)
  t.teardown(() => root.destroy())
  return {
    ...server,
    port,
    root,
    begin: (headers: Record<string, string>, token = server.key) =>
      openClient(t, port, token).open('POST', '/v1/records', headers),
    async countOf(source: string): Promise<number> {
      const { rows } = await sql<{ n: number }>`
        SELECT count(*)::integer AS n FROM sluice.records WHERE source = ${source}`.execute(root)
      return rows[0]?.n as number
    },
  }
}

/** Starts to close a server. The test controls the timers that are set from now on. */
async function close(t: Test, app: FastifyInstance) {
  stopTimers(t)
  const closed = app.close()
  await until('the server to stop listening', () => !app.server.listening)
  return { closed }
}

// The signal was checked only when bytes arrived: an idle sender was reset without a response, after CLOSE_SECONDS.
t.test('idle uploads get a response soon after the server begins to close', async (t) => {
  const { app, begin, countOf } = await start(t, { CLOSE_SECONDS: '600' })
  const stream = begin(NDJSON)
  stream.request.write(line('idle', 1))
  const zipped = begin({ ...NDJSON, 'content-encoding': 'gzip' })
  zipped.request.write(gzipSync(line('zipped', 1)).subarray(0, -8))
  const silent = begin(NDJSON)
  silent.request.flushHeaders()
  const half = begin(NDJSON)
  half.request.write(line('half', 1) + line('half', 2).slice(0, 20))
  const batch = begin({ 'content-type': 'application/json', 'content-length': '100' })
  batch.request.write('[{"source":"batch"')
  await until('the lines', async () => (await countOf('idle')) === 1 && (await countOf('half')) === 1)
  await until('the compressed line', async () => (await countOf('zipped')) === 1)
  await until('the bytes of the batch', () => app.ingestMemory.used >= 100)

  const closed = app.close()
  for (const [name, { answer }, created] of [
    ['idle', stream, 1],
    ['half a line', half, 1],
    ['compressed', zipped, 1],
    ['no line', silent, 0],
  ] as const) {
    const ended = await answer
    isProblem(t, ended, 'draining', { name, outcome: created > 0 ? 'unknown' : 'not_written' })
    t.equal(ended.headers.connection, 'close', name)
    t.match(
      ended.json,
      { counts: { created }, lines: created, committedLines: created, rejections: [] },
      `${name}: report`,
    )
  }
  isProblem(t, await batch.answer, 'draining', { name: 'a batch' })
  await closed
  t.equal(app.ingestMemory.used, 0)
})

// Browsers open connections in advance. The process stayed for CLOSE_SECONDS and five more.
t.test('a connection that never sends anything does not keep the server from closing', async (t) => {
  const { app, port, key } = await start(t, { CLOSE_SECONDS: '600' })
  const taken: Socket[] = []
  app.server.on('connection', (socket) => taken.push(socket))
  const silent = open(port, '127.0.0.1')
  const late = open(port, '127.0.0.1')
  t.teardown(() => [silent, late].forEach((socket) => void socket.destroy()))
  await until('both connections', () => taken.length === 2)
  const ended = once(silent, 'close')
  const { closed } = await close(t, app)
  mock.timers.tick(10 * LOOK_MS)
  const body = '{"source":"late","type":"t"}'
  const headers = { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json', 'Content-Length': '28' }
  const answer = once(late, 'data')
  late.write(head('POST', '/v1/records', headers) + body)
  t.match(String(await answer), /^HTTP\/1\.1 201 /, 'a request that was on its way is still served')
  mock.timers.tick(20 * LOOK_MS)
  t.same(await ended, [false])
  await closed
})

t.test('an active upload is not ended before CLOSE_SECONDS', async (t) => {
  const { app, begin, countOf } = await start(t, { CLOSE_SECONDS: '600' })
  const taken = once(app.server, 'connection') as Promise<[Socket]>
  const { request, answer } = begin(NDJSON)
  request.write(line('active', 'first'))
  await until('the first line', async () => (await countOf('active')) === 1)
  const [theirs] = await taken
  const { closed } = await close(t, app)
  let sent = 1
  // Five times as many checks as an idle upload gets.
  for (let checks = 0; checks < 100; checks += 10) {
    const before = theirs.bytesRead
    request.write(line('active', sent++))
    await until('the line', () => theirs.bytesRead > before)
    mock.timers.tick(10 * LOOK_MS)
  }
  request.end()
  t.match(await answer, { status: 201, json: { counts: { created: sent } } })
  // This closes the connection, which is idle now.
  mock.timers.tick(LOOK_MS)
  await closed
})

t.test('after CLOSE_SECONDS, lines that wait for the rate get a response that reports what is stored', async (t) => {
  const { app, begin, countOf, makeKey } = await start(t, { CLOSE_SECONDS: '0.1' })
  const { token } = await makeKey({ recordsPerSecond: 1 })
  const { request, answer } = begin(NDJSON, token)
  request.end(lines('slow', 9000))
  await until('the first lines', async () => (await countOf('slow')) > 0)
  const closed = app.close()
  const ended = await answer
  isProblem(t, ended, 'draining', { outcome: 'unknown' })
  t.ok(ended.json.committedLines < 9000)
  t.equal(ended.json.committedLines, await countOf('slow'))
  await closed
})

t.test('after CLOSE_SECONDS, requests that wait for the database get a response and no reset', async (t) => {
  const { app, begin, countOf, database, root } = await start(t, { CLOSE_SECONDS: '0.1', OUTAGE_HOLD_SECONDS: '600' })
  const stream = begin(NDJSON)
  stream.request.write(line('locked', 'first'))
  await until('the first line', async () => (await countOf('locked')) === 1)
  const locking = connect(database.superUrl)
  t.teardown(() => locking.destroy())
  const lock = await locking.startTransaction().execute()
  await sql`LOCK TABLE sluice.records IN SHARE MODE`.execute(lock)
  // More than the writer and the stream hold together: the stream waits for the writer.
  stream.request.write(lines('locked', 20_000))
  const batch = begin({ 'content-type': 'application/json' })
  batch.request.end(line('batch', 1))
  await untilBlocked(root, 'sluice.records', 2)
  await until('all chunks to wait', () => app.writer.status.waiting >= 3)

  const { closed } = await close(t, app)
  mock.timers.tick(100)
  const [ended, refused] = await Promise.all([stream.answer, batch.answer])
  t.match(ended, { status: 503, json: { outcome: 'unknown', counts: { created: 1 }, committedLines: 1 } })
  t.equal(refused.status, 503)
  await lock.rollback().execute()
  mock.timers.tick(LAST_ANSWERS_MS)
  await closed
})

// In HTTP/1.0, the end of the connection is the end of the response: half of an export looked complete.
t.test('an export that is cut off when the server closes is reset, and the log says so', async (t) => {
  const { app, port, key, logs, root } = await start(t, { CLOSE_SECONDS: '0' })
  // More than the buffers on the way hold.
  await sql`
    INSERT INTO sluice.records (epoch, n, source, id, type, data)
    SELECT 1, n, 'large', n, 't', to_json(repeat('x', 100000)) FROM generate_series(1, 300) AS n`.execute(root)
  const socket = open(port, '127.0.0.1')
  t.teardown(() => socket.destroy())
  const end = new Promise<string>((resolve) => {
    socket.once('end', () => resolve('end')).once('error', ({ code }: NodeJS.ErrnoException) => resolve(String(code)))
  })
  const headers = { Authorization: `Bearer ${key}`, Accept: 'application/x-ndjson' }
  socket.write(head('GET', '/v1/records', headers).replace('HTTP/1.1', 'HTTP/1.0'))
  await new Promise((resolve) => socket.once('data', resolve))
  socket.pause()
  const { closed } = await close(t, app)
  mock.timers.tick(LAST_ANSWERS_MS)
  await closed
  socket.resume()
  t.equal(await end, 'ECONNRESET')
  t.match(
    logs.find(({ msg }) => /connections are cut/.test(String(msg))),
    { level: 'warn', connections: 1 },
  )
})

// The request got its response after two seconds, but then the process waited for the lock.
t.test('a statement that waits for a lock does not keep the server from closing', async (t) => {
  const { app, post, root } = await start(t, { CLOSE_SECONDS: '1' })
  const trx = await root.startTransaction().execute()
  await sql`LOCK TABLE sluice.records IN ACCESS EXCLUSIVE MODE`.execute(trx)
  const answer = post({ source: 'locked', type: 't', id: '1' })
  await untilBlocked(trx, 'sluice.records')
  const { closed } = await close(t, app)
  mock.timers.tick(1000)
  t.match(await answer, { status: 503, json: { code: 'database_unavailable', outcome: 'unknown' } })
  mock.timers.tick(LAST_ANSWERS_MS)
  await closed
  await trx.rollback().execute()
})

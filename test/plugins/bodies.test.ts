import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { type IncomingMessage, METHODS } from 'node:http'
import { connect as open, type Socket } from 'node:net'
import type { FastifyRequest } from 'fastify'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { MAX_PIECES } from '../../src/lib/read-in-turn.ts'
import { MAX_PIPELINED } from '../../src/plugins/bodies.ts'
import { DISCARD_BYTES } from '../../src/plugins/lingering.ts'
import { createApp } from '../helpers/app.ts'
import { turn } from '../helpers/clock.ts'
import { connect } from '../helpers/connect.ts'
import { head, listen } from '../helpers/socket.ts'
import { until, untilStable } from '../helpers/until.ts'

const MiB = 1024 * 1024
const { app, key, makeKey, database } = await createApp(t, { STALL_SECONDS: '10' })
const ports = { api: await listen(app), metrics: await listen(app.metricsServer) }
/** The server's side of each connection. */
const connections: Socket[] = []
for (const { server } of [app, app.metricsServer]) server.on('connection', (socket) => void connections.push(socket))
/** The channel on which Fastify reports that the handler of a request starts. */
const HANDLER = 'tracing:fastify.request.handler:start'
const JSON_TYPE = { 'Content-Type': 'application/json' }

async function dial(t: Test, port: number) {
  const socket = open(port, '127.0.0.1')
  t.teardown(() => socket.destroy())
  let received = ''
  socket.on('data', (bytes) => {
    received += bytes
  })
  const closed = new Promise<void>((resolve) => socket.on('error', () => {}).on('close', () => resolve()))
  await once(socket, 'connect')
  const theirs = await until('the connection', () =>
    // The last one, because an earlier connection may have had the same port.
    connections.findLast(({ remotePort, destroyed }) => remotePort === socket.localPort && !destroyed),
  )
  return {
    socket,
    theirs,
    closed,
    /** The statuses that have arrived. */
    statuses: () => [...received.matchAll(/HTTP\/1\.1 (\d+) /g)].map(([, status]) => Number(status)),
  }
}

/** Sends the beginning of a request. @returns the status, which must arrive without the rest */
async function statusOf(t: Test, port: number, ...pieces: (string | Buffer)[]): Promise<number | undefined> {
  const { socket, closed, statuses } = await dial(t, port)
  for (const piece of pieces) socket.write(piece)
  await until('a response', () => statuses().length > 0 || socket.destroyed)
  socket.destroy()
  await closed
  return statuses()[0]
}

// 800 connections without a key sent bodies as fast as they could, and a client with a key got no response in ten seconds: each
// iteration of the event loop read up to 2 MiB from each of them.
t.test('an iteration of the event loop reads only a few pieces of all unwanted bodies', async (t) => {
  const senders = await Promise.all(Array.from({ length: 4 * MAX_PIECES }, () => dial(t, ports.api)))
  for (const { socket } of senders) {
    socket.write(head('POST', '/nothing/here', { ...JSON_TYPE, 'Content-Length': String(4 * MiB) }))
    socket.write(Buffer.alloc(4 * MiB))
  }
  await until('all responses', () => senders.every(({ statuses }) => statuses().length === 1))
  const read = () => senders.reduce((sum, { theirs }) => sum + theirs.bytesRead, 0)
  let [last, most] = [read(), 0]
  while (last < senders.length * 4 * MiB) {
    await turn()
    const now = read()
    most = Math.max(most, now - last)
    last = now
  }
  t.ok(most > 0 && most <= (2 * MAX_PIECES * MiB) / 16, `${most} bytes`)
  for (const { socket } of senders) socket.write(head('GET', '/nothing/here'))
  await until('the next responses', () => senders.every(({ statuses }) => statuses().length === 2))
})

// OPTIONS /v1/records reserved memory for the announced length of a body and never released it. After four requests without a
// key, all ingestion got 503 until a restart. All other paths held a MiB of each body.
t.test('without a key, a response on any path neither depends on the body nor waits for it', async (t) => {
  // What follows a CONNECT is not HTTP.
  const methods = METHODS.filter((method) => method !== 'CONNECT')
  const piece = Buffer.alloc(MiB / 8, 'x')
  for (const [port, path] of [
    [ports.api, '/v1/records'],
    [ports.api, '/v1/records/source/id'],
    [ports.api, '/healthz'],
    [ports.api, '/openapi.json'],
    [ports.api, '/nothing/here'],
    [ports.api, '/%ff'],
    [ports.metrics, '/metrics'],
    [ports.metrics, '/nothing/here'],
  ] as const) {
    await Promise.all(
      methods.map(async (method) => {
        const bare = await statusOf(t, port, head(method, path, { ...JSON_TYPE, 'Content-Length': '0' }))
        const large = head(method, path, { ...JSON_TYPE, 'Content-Length': String(16 * MiB) })
        t.equal(await statusOf(t, port, large, piece), bare, `${method} ${path} with a large body`)
        const chunked = head(method, path, { ...JSON_TYPE, 'Transfer-Encoding': 'chunked' })
        t.equal(await statusOf(t, port, chunked, '20000\r\n', piece), bare, `${method} ${path} with a chunked body`)
      }),
    )
    t.equal(app.ingestMemory.used, 0, `${path} reserves nothing`)
  }
})

t.test('unwanted bodies are dropped as they arrive, however many clients send one', async (t) => {
  const requests = new Set<{ readableLength: number }>()
  const note = (request: { readableLength: number }) => void requests.add(request)
  for (const { server } of [app, app.metricsServer]) server.on('request', note)
  t.teardown(() => {
    for (const { server } of [app, app.metricsServer]) server.off('request', note)
  })
  const piece = Buffer.alloc(MiB / 2, 'x')
  const senders = await Promise.all(
    Array.from({ length: 60 }, async (_, n) => {
      const port = n % 3 === 2 ? ports.metrics : ports.api
      const sender = await dial(t, port)
      const path = n % 3 === 0 ? '/v1/records' : '/nothing/here'
      sender.socket.write(head(n % 2 ? 'POST' : 'OPTIONS', path, { ...JSON_TYPE, 'Content-Length': String(16 * MiB) }))
      sender.socket.write(piece)
      return sender
    }),
  )
  for (const { theirs, statuses } of senders) {
    await until('all that was sent to be read', () => theirs.bytesRead > piece.length)
    await until('the response', () => statuses().length === 1)
  }
  t.equal(requests.size, 60)
  t.same(new Set([...requests].map(({ readableLength }) => readableLength)), new Set([0]))
  t.equal(app.ingestMemory.used, 0)
  for (const { socket } of senders) socket.destroy()
})

t.test('after a small unwanted body, the connection can be used again', async (t) => {
  for (const [method, path, status] of [
    ['POST', '/v1/records', 401],
    ['POST', '/nothing', 404],
    ['PUT', '/v1/records', 405],
    ['OPTIONS', '/v1/records', 200],
    ['GET', '/healthz', 200],
  ] as const) {
    const { socket, statuses } = await dial(t, ports.api)
    const body = 'x'.repeat(100_000)
    const headers = { ...JSON_TYPE, 'Content-Length': String(body.length) }
    for (let n = 0; n < 3; n++) socket.write(head(method, path, headers) + body)
    await until('the responses', () => statuses().length === 3)
    t.same(statuses(), [status, status, status], `${method} ${path}`)
  }
})

t.test('a refused body is read, so that its sender reads the response; an endless one is cut off', async (t) => {
  const announced = await dial(t, ports.api)
  announced.socket.write(head('POST', '/v1/records', { ...JSON_TYPE, 'Content-Length': String(16 * MiB) }))
  announced.socket.write(Buffer.alloc(16 * MiB, 'x'))
  await until('all of it to be read', () => announced.theirs.bytesRead > 16 * MiB)
  announced.socket.write(head('GET', '/healthz'))
  await until('both responses', () => announced.statuses().length === 2)
  t.same(announced.statuses(), [401, 200])

  const endless = await dial(t, ports.api)
  endless.socket.write(head('POST', '/nothing', { ...JSON_TYPE, 'Transfer-Encoding': 'chunked' }))
  const chunk = Buffer.concat([Buffer.from('100000\r\n'), Buffer.alloc(MiB, 'x'), Buffer.from('\r\n')])
  const send = () => {
    while (!endless.socket.destroyed && endless.socket.write(chunk));
  }
  endless.socket.on('drain', send)
  send()
  await endless.closed
  t.same(endless.statuses(), [404])
  t.ok(endless.theirs.bytesRead < DISCARD_BYTES + 4 * MiB, `${endless.theirs.bytesRead} bytes were read`)
})

t.test('a refused body that arrives slowly is cut off', async (t) => {
  const strict = (await createApp(t, { STALL_SECONDS: '1' })).app
  const port = await listen(strict)
  strict.server.on('connection', (socket) => void connections.push(socket))
  const { socket, closed, statuses } = await dial(t, port)
  socket.write(head('POST', '/v1/records', { ...JSON_TYPE, 'Content-Length': '1000' }))
  const dripping = setInterval(() => socket.write('x'), 100)
  t.teardown(() => clearInterval(dripping))
  await closed
  t.same(statuses(), [401])
})

// The request waited for an event that had already fired, and never released its memory.
t.test('if a sender disconnects while its key is looked up, nothing stays reserved', async (t) => {
  const { token } = await makeKey()
  const lookedUp = once(app.server, 'request')
  const { socket, theirs } = await dial(t, ports.api)
  const headers = { ...JSON_TYPE, Authorization: `Bearer ${token}`, 'Content-Length': '1000000' }
  socket.write(`${head('POST', '/v1/records', headers)}[`)
  const [request] = await lookedUp
  socket.destroy()
  await until('the end of the connection', () => theirs.destroyed && request.destroyed)
  // This look-up waits for the same read of the keys, or for a later one.
  const other = await makeKey()
  const status = await statusOf(t, ports.api, head('GET', '/v1/records', { Authorization: `Bearer ${other.token}` }))
  t.equal(status, 200)
  t.equal(app.ingestMemory.used, 0)
})

t.test('while an unknown key is looked up, no more of the body is read; then the connection works again', async (t) => {
  const db = connect(database.superUrl)
  t.teardown(() => db.destroy())
  const { socket, theirs, statuses } = await dial(t, ports.api)
  const body = Buffer.alloc(8 * MiB, 'x')
  const headers = { ...JSON_TYPE, Authorization: 'Bearer unknown', 'Content-Length': String(body.length) }
  await db.transaction().execute(async (trx) => {
    await sql`LOCK TABLE sluice.keys IN ACCESS EXCLUSIVE MODE`.execute(trx)
    socket.write(head('POST', '/v1/records', headers))
    await until('the head', () => theirs.bytesRead > 0)
    socket.write(body)
    const read = await untilStable(
      () => theirs.bytesRead,
      () => sql`SELECT 1`.execute(trx),
    )
    t.ok(read <= 64 * 1024, `${read} bytes were read`)
  })
  await until('the response', () => statuses().length === 1)
  await until('the rest to be dropped', () => theirs.bytesRead > body.length)
  socket.write(head('GET', '/v1/records', { Authorization: 'Bearer unknown' }))
  await until('the next response', () => statuses().length === 2)
  t.same(statuses(), [401, 401])
})

// Node.js starts every request that it has parsed, and 64 KiB may contain thousands of them.
t.test('a connection with too many requests in flight is closed, and no later request is handled', async (t) => {
  const get = head('GET', '/v1/records', { Authorization: `Bearer ${key}` })
  const patient = await dial(t, ports.api)
  patient.socket.write(get.repeat(MAX_PIPELINED))
  await until('all responses', () => patient.statuses().length === MAX_PIPELINED)
  patient.socket.write(get.repeat(MAX_PIPELINED))
  await until('all responses again', () => patient.statuses().length === 2 * MAX_PIPELINED)

  // Requests that Node.js parses after their connection was closed.
  const late = new Set<IncomingMessage>()
  const findLate = (request: IncomingMessage) => void (request.socket.destroyed && late.add(request))
  app.server.prependListener('request', findLate)
  const handled = new Set<IncomingMessage>()
  const note = (message: unknown) => void handled.add((message as { request: FastifyRequest }).request.raw)
  subscribe(HANDLER, note)
  t.teardown(() => {
    app.server.off('request', findLate)
    unsubscribe(HANDLER, note)
  })
  // One read may not bring more requests than it takes to close the connection.
  while (late.size === 0) {
    const greedy = await dial(t, ports.api)
    greedy.socket.write(get.repeat(400))
    await greedy.closed
    t.same(greedy.statuses(), [])
  }
  t.equal(await statusOf(t, ports.api, get), 200)
  t.ok(handled.size > MAX_PIPELINED, `${handled.size} were handled`)
  t.equal(handled.intersection(late).size, 0, `of ${late.size} late requests`)
})

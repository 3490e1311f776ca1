import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { type IncomingMessage, METHODS } from 'node:http'
import { connect as open, type Socket } from 'node:net'
import type { FastifyRequest } from 'fastify'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { DISCARD_BYTES, MOST_PIECES, MOST_PIPELINED } from '../../src/plugins/bodies.ts'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { head, listen } from '../helpers/socket.ts'
import { settles, until } from '../helpers/until.ts'

const MiB = 1024 * 1024
const { app, key, makeKey, database } = await createApp(t)
const ports = { api: await listen(app), metrics: await listen(app.metricsServer) }
/** The server's side of all connections. */
const connections: Socket[] = []
for (const { server } of [app, app.metricsServer]) server.on('connection', (socket) => void connections.push(socket))
/** Where Fastify says that the handler of a request begins. */
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
    // The last: an earlier connection may have had the same port.
    connections.findLast(({ remotePort, destroyed }) => remotePort === socket.localPort && !destroyed),
  )
  return {
    socket,
    theirs,
    closed,
    /** The statuses that have come. */
    statuses: () => [...received.matchAll(/HTTP\/1\.1 (\d+) /g)].map(([, status]) => Number(status)),
  }
}

/** The status of a request of which this much is sent. It must come without the rest. */
async function ask(t: Test, port: number, ...pieces: (string | Buffer)[]): Promise<number | undefined> {
  const { socket, closed, statuses } = await dial(t, port)
  for (const piece of pieces) socket.write(piece)
  await until('an answer', () => statuses().length > 0 || socket.destroyed)
  socket.destroy()
  await closed
  return statuses()[0]
}

// Without a key, 800 connections sent bodies as fast as they could, and a key got no answer in ten seconds: each turn of
// the event loop read up to 2 MiB on each of them.
t.test('of all bodies that nobody wants, a turn of the event loop reads a few pieces', async (t) => {
  const senders = await Promise.all(Array.from({ length: 4 * MOST_PIECES }, () => dial(t, ports.api)))
  for (const { socket } of senders) {
    socket.write(head('POST', '/nothing/here', { ...JSON_TYPE, 'Content-Length': String(4 * MiB) }))
    socket.write(Buffer.alloc(4 * MiB))
  }
  await until('all answers', () => senders.every(({ statuses }) => statuses().length === 1))
  const read = () => senders.reduce((sum, { theirs }) => sum + theirs.bytesRead, 0)
  let [last, most] = [read(), 0]
  // One look in each turn.
  await until('all bodies', () => {
    const now = read()
    most = Math.max(most, now - last)
    last = now
    return now >= senders.length * 4 * MiB
  })
  t.ok(most > 0 && most <= (2 * MOST_PIECES * MiB) / 16, `${most} bytes`)
  for (const { socket } of senders) socket.write(head('GET', '/nothing/here'))
  await until('the next answers', () => senders.every(({ statuses }) => statuses().length === 2))
})

// OPTIONS /v1/records reserved what a body announced, and never gave it back: four requests without a key, and all
// ingestion got 503 until a restart. On all other paths a MiB of each body was held.
t.test(
  'no method on any path reads a body without a key: the answer is as without one, and does not wait',
  async (t) => {
    // Nothing that comes after CONNECT is HTTP.
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
          const bare = await ask(t, port, head(method, path, { ...JSON_TYPE, 'Content-Length': '0' }))
          const large = head(method, path, { ...JSON_TYPE, 'Content-Length': String(16 * MiB) })
          t.equal(await ask(t, port, large, piece), bare, `${method} ${path} with a large body`)
          const chunked = head(method, path, { ...JSON_TYPE, 'Transfer-Encoding': 'chunked' })
          t.equal(await ask(t, port, chunked, '20000\r\n', piece), bare, `${method} ${path} with a chunked body`)
        }),
      )
      t.equal(app.ingestMemory.used, 0, `${path} reserves nothing`)
    }
  },
)

t.test('what comes of a body that nobody wants is dropped, however many send one', async (t) => {
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
    await until('the answer', () => statuses().length === 1)
  }
  t.equal(requests.size, 60)
  t.same(new Set([...requests].map(({ readableLength }) => readableLength)), new Set([0]))
  t.equal(app.ingestMemory.used, 0)
  for (const { socket } of senders) socket.destroy()
})

t.test('after a refusal the connection goes on, when the body is small', async (t) => {
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
    await until('the answers', () => statuses().length === 3)
    t.same(statuses(), [status, status, status], `${method} ${path}`)
  }
})

t.test(
  'a body that is refused is read to its end, so that its sender reads the answer; one without an end is cut',
  async (t) => {
    const announced = await dial(t, ports.api)
    announced.socket.write(head('POST', '/v1/records', { ...JSON_TYPE, 'Content-Length': String(16 * MiB) }))
    announced.socket.write(Buffer.alloc(16 * MiB, 'x'))
    await until('all of it to be read', () => announced.theirs.bytesRead > 16 * MiB)
    announced.socket.write(head('GET', '/healthz'))
    await until('both answers', () => announced.statuses().length === 2)
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
  },
)

t.test('a body that is refused, and of which bytes come now and then, is cut after a while', async (t) => {
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

// It waited for an event that had come already, and kept what it had reserved for ever.
t.test('a sender who leaves while its key is looked up leaves nothing reserved', async (t) => {
  const { token } = await makeKey()
  const lookedUp = once(app.server, 'request')
  const { socket, theirs } = await dial(t, ports.api)
  const headers = { ...JSON_TYPE, Authorization: `Bearer ${token}`, 'Content-Length': '1000000' }
  socket.write(`${head('POST', '/v1/records', headers)}[`)
  const [request] = await lookedUp
  socket.destroy()
  await until('the end of the connection', () => theirs.destroyed && request.destroyed)
  // Those who ask meanwhile wait for the same read of the keys.
  const other = await makeKey()
  const status = await ask(t, ports.api, head('GET', '/v1/records', { Authorization: `Bearer ${other.token}` }))
  t.equal(status, 200)
  t.equal(app.ingestMemory.used, 0)
})

t.test('while an unknown key is looked up, no more of the body is read; then the connection goes on', async (t) => {
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
    const read = await settles(
      () => theirs.bytesRead,
      () => sql`SELECT 1`.execute(trx),
    )
    t.ok(read <= 64 * 1024, `${read} bytes were read`)
  })
  await until('the answer', () => statuses().length === 1)
  await until('the rest to be dropped', () => theirs.bytesRead > body.length)
  socket.write(head('GET', '/v1/records', { Authorization: 'Bearer unknown' }))
  await until('the next answer', () => statuses().length === 2)
  t.same(statuses(), [401, 401])
})

// Node.js begins every request that it has parsed, and 64 KiB may hold thousands of them.
t.test('a connection with too many requests in flight is closed, and no request after that is handled', async (t) => {
  const get = head('GET', '/v1/records', { Authorization: `Bearer ${key}` })
  const patient = await dial(t, ports.api)
  patient.socket.write(get.repeat(MOST_PIPELINED))
  await until('all answers', () => patient.statuses().length === MOST_PIPELINED)
  patient.socket.write(get.repeat(MOST_PIPELINED))
  await until('all answers again', () => patient.statuses().length === 2 * MOST_PIPELINED)

  // Node.js parsed these after their connection was closed.
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
  // Nothing guarantees that one read brings more requests than it takes to close the connection.
  while (late.size === 0) {
    const greedy = await dial(t, ports.api)
    greedy.socket.write(get.repeat(400))
    await greedy.closed
    t.same(greedy.statuses(), [])
  }
  t.equal(await ask(t, ports.api, get), 200)
  t.ok(handled.size > MOST_PIPELINED, `${handled.size} were handled`)
  t.equal(handled.intersection(late).size, 0, `of ${late.size} late ones`)
})

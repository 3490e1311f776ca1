import { once } from 'node:events'
import { connect as open, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { MAX_AT_ONCE, UNTIL_COUNTED } from '../../src/plugins/fair-turns.ts'
import { createApp } from '../helpers/app.ts'
import { head, listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

/** A request with these headers is refused without the database. */
const REFUSED = { 'Content-Type': 'text/plain', 'Content-Length': '0' }
const PIPELINED = 30

async function dial(t: Test, port: number): Promise<{ socket: Socket; statuses: () => number[] }> {
  const socket = open(port, '127.0.0.1')
  t.teardown(() => socket.destroy())
  let received = ''
  socket.on('data', (bytes) => {
    received += bytes
  })
  await once(socket, 'connect')
  return { socket, statuses: () => [...received.matchAll(/HTTP\/1\.1 (\d+) /g)].map(([, status]) => Number(status)) }
}

const dialAll = (t: Test, port: number, count: number) =>
  Promise.all(Array.from({ length: count }, () => dial(t, port)))

const post = (token: string) => head('POST', '/v1/records', { ...REFUSED, Authorization: `Bearer ${token}` })

// One key sent 16,000 pipelined requests, again and again. Each iteration of the event loop refused all that had arrived. Another
// key, which needs several iterations per request, got no response in ten seconds.
t.test('a request does not wait for all earlier requests of another key', async (t) => {
  const { app, key, logs, makeKey } = await createApp(t)
  const port = await listen(app)
  const { id: greedyId, token: greedy } = await makeKey()
  const flood = await dialAll(t, port, 40)
  const probe = await dial(t, port)
  const other = await dial(t, port)
  // From here on, the keys are known.
  for (const token of [key, greedy]) {
    other.socket.write(post(token))
    await until('a response', () => other.statuses().length > 0)
  }
  await until('both responses', () => other.statuses().length === 2)

  logs.length = 0
  for (const { socket } of flood) socket.write(post(greedy).repeat(PIPELINED))
  probe.socket.write(head('GET', '/healthz', {}))
  other.socket.write(post(key))
  await until('all responses', () => flood.every(({ statuses }) => statuses().length === PIPELINED))
  t.same(other.statuses(), [415, 415, 415])
  t.same(probe.statuses(), [200])
  for (const { statuses } of flood) t.same(new Set(statuses()), new Set([415]))

  const answered = logs.filter(({ msg }) => msg === 'request')
  t.equal(answered.filter((line) => line.key === greedyId).length, 40 * PIPELINED)
  const index = answered.findIndex((line) => line.key !== greedyId && line.route === '/v1/records')
  t.ok(index >= MAX_AT_ONCE - UNTIL_COUNTED && index < 2 * MAX_AT_ONCE, `it was answered after ${index} others`)
})

// The part of the body that Node.js had already read was kept in one piece per chunk.
t.test('a body that arrives in tiny chunks while its request waits is read completely', async (t) => {
  const { app, key, logs, makeKey } = await createApp(t)
  const port = await listen(app)
  const { id: greedyId, token: greedy } = await makeKey()
  const flood = await dialAll(t, port, 40)
  const other = await dial(t, port)
  for (const token of [key, greedy]) other.socket.write(post(token))
  await until('both responses', () => other.statuses().length === 2)

  logs.length = 0
  const body = JSON.stringify({ source: 's', type: 't', id: 'tiny', data: 'x'.repeat(5000) })
  const headers = { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json', 'Transfer-Encoding': 'chunked' }
  for (const { socket } of flood) socket.write(post(greedy).repeat(PIPELINED))
  other.socket.write(
    `${head('POST', '/v1/records', headers)}${[...body].map((byte) => `1\r\n${byte}\r\n`).join('')}0\r\n\r\n`,
  )
  await until('its response', () => other.statuses().length === 3)
  t.equal(other.statuses().at(-1), 201)
  const before = logs.filter((line) => line.key === greedyId).length
  t.ok(before >= MAX_AT_ONCE - UNTIL_COUNTED, `it waited: ${before} others were answered before`)
})

// The refusals of a flood caused the event-loop delay for which all keys were refused.
t.test('requests that are shed take turns as well', async (t) => {
  const { app, key, logs, makeKey } = await createApp(t, { SHED_INGEST_SECONDS: '0.05' })
  const port = await listen(app)
  const { token: greedy } = await makeKey()
  const flood = await dialAll(t, port, 40)
  const other = await dial(t, port)
  for (const token of [key, greedy]) other.socket.write(post(token))
  await until('both responses', () => other.statuses().length === 2)
  await until('ingestion to be shed', () => {
    for (const end = performance.now() + 100; performance.now() < end; );
    return app.shedding.state === 'ingest'
  })

  logs.length = 0
  for (const { socket } of flood) socket.write(post(greedy).repeat(PIPELINED))
  other.socket.write(post(key).replace('/v1/records', '/v1/records/other'))
  await until('all responses', () => flood.every(({ statuses }) => statuses().length === PIPELINED))
  // Not necessarily all of them: the delay is measured again every two seconds.
  t.ok(flood.some(({ statuses }) => statuses().includes(503)))
  const answered = logs.filter(({ msg }) => msg === 'request')
  const index = answered.findIndex(({ route }) => route !== '/v1/records')
  t.ok(index >= 0 && index < 2 * MAX_AT_ONCE, `it was answered after ${index} others`)
})

t.test('requests that find no room to wait are refused, and their connections are paused', async (t) => {
  const bytes = String(512 * 1024)
  const { app, key, makeKey } = await createApp(t, {
    QUEUE_MAX_BYTES: bytes,
    MAX_BATCH_BYTES: bytes,
    MAX_RECORD_BYTES: bytes,
  })
  const port = await listen(app)
  const greedy = (await makeKey()).token
  /** The client ports of the connections that were paused. */
  const paused = new Set<number>()
  app.server.on('connection', (socket: Socket) => {
    const port = socket.remotePort as number
    socket.on('pause', () => paused.add(port))
  })
  const flood = await dialAll(t, port, 40)
  const other = await dial(t, port)
  for (const token of [key, greedy]) other.socket.write(post(token))
  await until('both responses', () => other.statuses().length === 2)

  for (const { socket } of flood) socket.write(post(greedy).repeat(PIPELINED))
  other.socket.write(post(key))
  await until('all responses', () => flood.every(({ statuses }) => statuses().length === PIPELINED))
  t.equal(other.statuses().at(-1), 415)
  const refused = flood.filter(({ statuses }) => statuses().every((status) => status === 503))
  t.ok(refused.length > 10, `${refused.length} connections are refused`)
  // Nothing else pauses them.
  await until('their connections to be paused', () =>
    refused.every(({ socket }) => paused.has(socket.localPort as number)),
  )
  for (const { socket } of flood) socket.write(post(greedy))
  await until('the next responses', () => flood.every(({ statuses }) => statuses().length === PIPELINED + 1))
})

// Reading 64 KiB in chunks of one byte takes 10 ms, and one iteration read as much from each of 64 connections.
t.test('a connection is paused after a request without a valid key, and not after others', async (t) => {
  const { app, key } = await createApp(t)
  const port = await listen(app)
  let paused = 0
  app.server.on('connection', (socket: Socket) => socket.on('pause', () => paused++))
  const { socket, statuses } = await dial(t, port)
  socket.write(post(key))
  await until('the first response', () => statuses().length === 1)
  // The first look-up of a key pauses the connection as well.
  const before = paused
  socket.write(post(key))
  await until('the response', () => statuses().length === 2)
  t.equal(paused, before)
  socket.write(head('POST', '/v1/records', REFUSED))
  await until('the pause', () => paused > before)
  socket.write(post(key))
  await until('the last response', () => statuses().length === 4)
  t.same(statuses(), [415, 415, 401, 415])
})

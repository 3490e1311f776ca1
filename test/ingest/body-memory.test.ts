import { connect as open } from 'node:net'
import { Readable } from 'node:stream'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { gzipSync } from 'node:zlib'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { readBody } from '../../src/ingest/body.ts'
import { type Block, LineCutter } from '../../src/lib/line-cutter.ts'
import { createApp } from '../helpers/app.ts'
import { turn } from '../helpers/clock.ts'
import { connect } from '../helpers/connect.ts'
import { head, listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

setFlagsFromString('--expose-gc')
const gc: () => void = runInNewContext('gc')
const heldNow = () => {
  // Objects with a finalizer are only freed by the second collection.
  gc()
  gc()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

const MiB = 1024 ** 2
const GiB = 1024 ** 3

const server = await createApp(t, {
  OUTAGE_HOLD_SECONDS: '600',
  QUEUE_MAX_BYTES: String(4 * GiB),
  // The rows that are packed for a running flush do not belong to a request.
  FLUSH_MAX_BYTES: '1024',
  SHED_INGEST_SECONDS: '60',
  SHED_READ_SECONDS: '60',
  LOG_LEVEL: 'silent',
})
const { app, database, key } = server
const port = await listen(app)
const root = connect(Object.assign(new URL(database.superUrl), { pathname: '/postgres' }).href)
t.teardown(() => root.destroy())

const BINARY = { 'ce-specversion': '1.0', 'ce-id': '1', 'ce-source': 'a', 'ce-type': 'b' }
const TINY = '{"source":"a","type":"b"}'
const FULL = JSON.stringify({
  source: 'https://example.com/shop',
  type: 'com.example.order.placed',
  id: 'a3b1c2d4',
  subject: 'orders/1001',
  time: '2026-01-01T00:00:00Z',
  dataschema: 'https://example.com/schema',
  region: 'eu',
  data: { total: 12.5 },
})
const batchOf = (record: string, count: number) => `[${Array(count).fill(record).join()}]`
const dataOf = (data: string) => JSON.stringify({ source: 'a', type: 'b', data })

/** Sends `pieces` on each connection, waits until they have arrived, and compares the memory used with the memory reserved. */
async function compareMemory(
  t: Test,
  name: string,
  connections: number,
  pieces: (string | Buffer)[],
  arrived: () => boolean,
) {
  const sockets = await Promise.all(
    Array.from({ length: connections }, async () => {
      const socket = open(port, '127.0.0.1').resume()
      t.teardown(() => socket.destroy())
      await new Promise((resolve) => socket.on('connect', resolve))
      return socket
    }),
  )
  const [heldBefore, reservedBefore] = [heldNow(), app.ingestMemory.used]
  for (const socket of sockets) for (const piece of pieces) socket.write(piece)
  await until(name, arrived)
  const reserved = app.ingestMemory.used - reservedBefore
  let held = heldNow() - heldBefore
  // Unused memory is freed on other threads, a little later. Memory in use stays.
  for (let again = 0; held > reserved && again < 20; again++) {
    await turn()
    held = heldNow() - heldBefore
  }
  t.ok(held <= reserved, `${name}: ${connections} connections hold ${held} bytes, and ${reserved} are reserved`)
  for (const socket of sockets) socket.destroy()
}

const post = (headers: Record<string, string | number>) =>
  head('POST', '/v1/records', {
    Authorization: `Bearer ${key}`,
    'Content-Type': 'application/json',
    ...headers,
  } as Record<string, string>)

// Chunks of a chunked body may have one byte. Each took an object of 200 bytes until the body or the line was complete.
t.test('a body or a line that arrives byte by byte takes about as much memory as it has bytes', async (t) => {
  const count = 100_000
  const [before, cutter] = [heldNow(), new LineCutter(MiB)]
  for (let n = 0; n < count; n++) cutter.push(Buffer.from('x'))
  const line = heldNow() - before
  t.equal(cutter.heldBytes, count)
  t.ok(line < 2 * count + MiB, `a line holds ${line} bytes`)
  t.equal((cutter.push(Buffer.from('\n'))[0] as Block).bytes.length, count + 1)

  const stream = new Readable({ read() {} })
  const content = readBody(stream, 0, { maxBatchBytes: MiB, maxRecordBytes: MiB }, () => {})
  for (let n = 0; n < count; n++) {
    stream.push('x')
    if (n % 10_000 === 0) await turn()
  }
  await turn()
  const body = heldNow() - before
  t.ok(body < 2 * count + MiB, `a body holds ${body} bytes`)
  stream.push(null)
  t.equal((await content).length, count)
})

t.test('an idle stream holds no more memory than is reserved for it', async (t) => {
  t.equal((await server.post(TINY)).status, 201)
  const lines = Buffer.from(`${FULL}\n`.repeat(20))
  // Memory that the process allocates only once does not belong to these streams.
  for (const [encoding, body] of [
    ['identity', lines],
    ['gzip', gzipSync(lines)],
  ] as const) {
    await server.post(body, { 'content-type': 'application/x-ndjson', 'content-encoding': encoding })
  }
  for (const [encoding, body] of [
    ['identity', lines],
    ['gzip', gzipSync(lines).subarray(0, -8)],
  ] as const) {
    const headers = { 'Content-Type': 'application/x-ndjson', 'Content-Length': 100_000, 'Content-Encoding': encoding }
    const stored = () => app.recordTotals.counts.created + app.recordTotals.counts.duplicate
    const all = stored() + 50 * 20
    await compareMemory(t, encoding, 50, [post(headers), body], () => stored() === all)
    await until('the end of the streams', () => app.ingestMemory.used === 0)
  }
})

t.test('a request that waits for the database holds no more memory than is reserved for it', async (t) => {
  await sql`ALTER DATABASE ${sql.id(database.name)} ALLOW_CONNECTIONS false`.execute(root)
  await sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ${database.name}`.execute(root)
  const many = Object.fromEntries(Array.from({ length: 20 }, (_, n) => [`X-Header-${n}`, 'x'.repeat(20)]))
  for (const [name, body, headers, connections, times] of [
    ['a tiny record', TINY, {}, 10, 20],
    ['a full record', FULL, {}, 10, 20],
    ['many headers', TINY, many, 10, 20],
    ['a huge header', TINY, { 'X-Huge': 'x'.repeat(15_000) }, 5, 20],
    ['tiny records', batchOf(TINY, 3000), {}, 1, 4],
    ['full records', batchOf(FULL, 3000), {}, 1, 4],
    ['nonsense and a record', `[${'5,'.repeat(2999)}${TINY}]`, {}, 1, 4],
    ['a large record', dataOf('x'.repeat(20_000)), {}, 4, 30],
    ['characters of two bytes', dataOf(`${'x'.repeat(20_000)}\u20ac`), {}, 4, 30],
    ['bytes', 'x'.repeat(20_000), { 'Content-Type': 'application/octet-stream', ...BINARY }, 4, 30],
  ] as const) {
    const request = `${post({ 'Content-Length': Buffer.byteLength(body), ...headers })}${body}`
    const waiting = app.writer.status.waiting + connections * times
    await compareMemory(t, name, connections, Array(times).fill(request), () => app.writer.status.waiting === waiting)
  }
})

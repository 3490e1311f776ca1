import { randomInt } from 'node:crypto'
import { connect as dial, type Socket } from 'node:net'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { constants, createBrotliCompress, createZstdCompress, gzipSync } from 'node:zlib'
import t, { type Test } from 'tap'
import { createApp } from '../helpers/app.ts'
import { head, listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

setFlagsFromString('--expose-gc')
const gc: () => void = runInNewContext('gc')

const MiB = 1024 * 1024
const STREAMS = 3
const { app, key, makeKey } = await createApp(t, { CLOSE_SECONDS: '0' })
const port = await listen(app)
/** The server's side of each connection. */
const connections: Socket[] = []
app.server.on('connection', (socket) => void connections.push(socket))
const NDJSON = { 'Content-Type': 'application/x-ndjson', 'Transfer-Encoding': 'chunked' }

function openStream(t: Test, token: string, headers: Record<string, string>, ...pieces: Buffer[]) {
  const socket = dial(port, '127.0.0.1').on('error', () => {})
  t.teardown(() => socket.destroy())
  socket.write(head('POST', '/v1/records', { Authorization: `Bearer ${token}`, ...NDJSON, ...headers }))
  for (const piece of pieces) socket.write(piece)
  return socket
}

const chunk = (bytes: Buffer) =>
  Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')])

/** Compresses blank lines, without an end. They differ, because equal ones would be refused as a compression bomb. */
function blankLines(stream: ReturnType<typeof createZstdCompress | typeof createBrotliCompress>, mebibytes: number) {
  const lines = Buffer.alloc(MiB, '\n')
  for (let at = 0; at < MiB; at += 149) lines[at] = ' \t\r\n'.charCodeAt(randomInt(4))
  const out: Buffer[] = []
  stream.on('data', (bytes) => out.push(bytes))
  for (let n = 0; n < mebibytes; n++) {
    for (let at = n; at < MiB; at += 149) lines[at] = ' \t\r\n'.charCodeAt(randomInt(4))
    stream.write(Buffer.from(lines))
  }
  return new Promise<Buffer>((resolve) => stream.flush(() => setImmediate(() => resolve(Buffer.concat(out)))))
}

// An idle stream reserved 40 KiB, and its inflater held 9 MiB (zstd) or 18 MiB (brotli). Some hundreds of such streams, which one
// key may have, ended the process.
t.test('the window of an inflater is reserved, as far as it is filled', async (t) => {
  const zstd = (log: number) => createZstdCompress({ params: { [constants.ZSTD_c_windowLog]: log } })
  const brotli = (log: number) =>
    createBrotliCompress({ params: { [constants.BROTLI_PARAM_LGWIN]: log, [constants.BROTLI_PARAM_QUALITY]: 1 } })
  for (const [name, encoding, stream, mebibytes, held] of [
    ['8 MiB, all used', 'zstd', zstd(23), 10, 8 * MiB],
    ['8 MiB, half of it used', 'zstd', zstd(23), 4, 4 * MiB],
    ['1 MiB', 'zstd', zstd(20), 10, MiB],
    ['16 MiB, all used', 'br', brotli(24), 18, 16 * MiB],
    ['4 MiB', 'br', brotli(22), 10, 4 * MiB],
  ] as const) {
    const socket = openStream(t, key, { 'Content-Encoding': encoding }, chunk(await blankLines(stream, mebibytes)))
    await until(
      `${encoding}, ${name}, to be reserved`,
      () => app.ingestMemory.used >= held && app.ingestMemory.used < held + MiB / 4,
    )
    socket.destroy()
    await until('the memory to be released', () => app.ingestMemory.used === 0)
  }
})

// Input that waits to be read is bounded in bytes, but each chunk is an object: 64 KiB took 11 MiB of the heap.
t.test('lines that wait for the rate hold no more than is reserved, even in chunks of one byte', async (t) => {
  const line = (id: number) => `{"source":"slow","type":"t","id":"${id}"}\n`
  const lines = Buffer.from(Array.from({ length: 20_000 }, (_, id) => line(id)).join(''))
  for (const [name, headers, body] of [
    ['plain', {}, lines],
    ['gzip', { 'Content-Encoding': 'gzip' }, gzipSync(lines, { level: 0 })],
  ] as const) {
    const { token } = await makeKey({ scopes: ['ingest'], recordsPerSecond: 1 })
    const [heapBefore, reservedBefore] = [heapUsed(), app.ingestMemory.used]
    const small = Buffer.from([...body.toString('latin1')].map((byte) => `1\r\n${byte}\r\n`).join(''), 'latin1')
    connections.length = 0
    for (let n = 0; n < STREAMS; n++) openStream(t, token, headers, small)
    // A byte of a line takes six bytes. So this is more than the first 2,000 lines, which wait for their turn.
    const full = () => connections.length === STREAMS && connections.every(({ bytesRead }) => bytesRead > 600_000)
    await until('the streams to wait', full)
    const [held, reserved] = [heapUsed() - heapBefore, app.ingestMemory.used - reservedBefore]
    t.ok(held < reserved + 4 * MiB, `${name}: ${held} bytes of the heap are held, ${reserved} are reserved`)
  }
})

function heapUsed(): number {
  gc()
  gc()
  return process.memoryUsage().heapUsed
}

import { connect as open, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { createApp } from '../helpers/app.ts'
import { isProblem } from '../helpers/problem.ts'
import { head, listen } from '../helpers/socket.ts'
import { until, untilStable } from '../helpers/until.ts'

// The memory of the response to a POST was released before a byte of it was sent. A client that posted batches of 20 KB and did
// not read the responses, of a megabyte or more each, filled the memory of the process, and no budget counted it.

const { app, key, post, get, makeKey } = await createApp(t)
const port = await listen(app)
/** The server's side of each open connection. */
const connections = new Set<Socket>()
app.server.on('connection', (socket: Socket) => {
  connections.add(socket)
  socket.on('close', () => connections.delete(socket))
})
const unsent = () => [...connections].reduce((sum, { writableLength }) => sum + writableLength, 0)

const JSON_TYPE = { 'Content-Type': 'application/json' }
const LINES = { 'Content-Type': 'application/x-ndjson' }
const nonsense = `[${Array(10_000).fill(1).join()}]`
const batch = (source: string, count = 2000) =>
  `[${Array.from({ length: count }, (_, id) => `{"source":"${source.padEnd(500, '.')}","type":"t","id":"${id}"}`).join()}]`
const longNames = `[${Array.from({ length: 1000 }, () => `{"${'~'.repeat(4000)}":1}`).join()},{"source":"s","type":"t"}]`
const lines = `{"source":"${'x'.repeat(500)}"}\n`.repeat(2000)

/** Sends a body `times` times on one connection and does not read the responses. */
function send(t: Test, token: string, body: string, headers: Record<string, string> = JSON_TYPE, times = 16): Socket {
  const socket = open(port, '127.0.0.1')
    .on('error', () => {})
    .pause()
  t.teardown(() => socket.destroy())
  for (let n = 0; n < times; n++) socket.write(request(token, body, headers))
  return socket
}

function request(token: string, body: string, headers: Record<string, string>): string {
  const all = { Authorization: `Bearer ${token}`, ...headers, 'Content-Length': String(Buffer.byteLength(body)) }
  return head('POST', '/v1/records', all) + body
}

const released = (what: string) => until(`the memory of ${what} to be released`, () => app.ingestMemory.used === 0)

for (const [name, body, headers] of [
  ['committed batches', batch('committed'), JSON_TYPE],
  ['committed batches with a rejected record', `[1,${batch('partly').slice(1)}`, JSON_TYPE],
  ['refused batches', nonsense, JSON_TYPE],
  ['batches with names that are longer in the response', longNames, JSON_TYPE],
  ['refused strict batches', nonsense, { ...JSON_TYPE, Prefer: 'handling=strict' }],
  ['lines', lines, LINES],
] as const) {
  t.test(`the responses to ${name} count until the client has read them or its connection is closed`, async (t) => {
    const first = send(t, key, body, headers)
    await until('the responses to be stuck', () => unsent() > 0)
    await until('the writer to finish', () => app.writer.status.waiting === 0)
    await untilStable(
      () => app.ingestMemory.used,
      () => get('/healthz'),
    )
    // At least the bytes that Node.js could not pass to the kernel are in memory.
    t.ok(app.ingestMemory.used >= unsent(), `${app.ingestMemory.used} bytes are reserved for ${unsent()}`)
    first.resume()
    await released('the responses')
    first.destroy()

    const second = send(t, key, body, headers)
    await until('the responses to be stuck', () => unsent() > 0)
    second.destroy()
    await released('the broken connection')
  })
}

// One key may have 570 streams open, and each of them could hold 4 MiB of rejected lines.
t.test('the rejected lines that a stream will report count while it is open', async (t) => {
  const before = app.recordTotals.counts.rejected
  const socket = open(port, '127.0.0.1')
  t.teardown(() => socket.destroy())
  const headers = { Authorization: `Bearer ${key}`, ...LINES, 'Transfer-Encoding': 'chunked' }
  socket.write(head('POST', '/v1/records', headers))
  socket.write(`${lines.length.toString(16)}\r\n${lines}\r\n`)
  const listed = 1000 * (500 + 100)
  await until('the lines to be refused', () => app.recordTotals.counts.rejected >= before + 2000)
  await untilStable(
    () => app.ingestMemory.used,
    () => get('/healthz'),
  )
  t.ok(app.ingestMemory.used > listed, `${app.ingestMemory.used} bytes`)
  socket.destroy()
  await released('the stream')
})

t.test('a key that does not read its responses is refused above its share, and another key is served', async (t) => {
  const greedy = (await makeKey()).token
  const sockets = Array.from({ length: 6 }, () => send(t, greedy, nonsense, JSON_TYPE, 1))
  const refused = await until('a refusal', async () => {
    for (const socket of sockets) socket.write(request(greedy, nonsense, JSON_TYPE))
    const answer = await post(nonsense, { authorization: `Bearer ${greedy}` })
    t.ok(app.ingestMemory.used <= app.ingestMemory.max && app.ingestMemory.used >= unsent())
    return unsent() > 0 && answer.status === 503 && answer
  })
  isProblem(t, refused, 'overloaded')
  t.match(refused.headers['retry-after'], /^\d+$/)
  t.equal((await post({ source: 'other', type: 't', id: '1' })).status, 201)
  t.equal((await post(batch('other', 500))).status, 201)
})

import { once } from 'node:events'
import { connect as open } from 'node:net'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { exchange, head, listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

// One key takes as much as it can. This must not affect the requests of another key.

const { app, key, makeKey, post } = await createApp(t)
const port = await listen(app)
const greedy = (await makeKey()).token
const MiB = 1024 * 1024

/** Sends the same bytes on several connections. @returns a function that returns the statuses that have arrived */
async function flood(t: Test, connections: number, bytes: string, to = port): Promise<() => number[]> {
  const statuses: number[] = []
  for (let n = 0; n < connections; n++) {
    const socket = open(to, '127.0.0.1')
    t.teardown(() => socket.destroy())
    socket.on('data', (bytes) => {
      for (const [, status] of String(bytes).matchAll(/HTTP\/1\.1 (\d+) /g)) statuses.push(Number(status))
    })
    await once(socket, 'connect')
    socket.write(bytes)
  }
  return () => statuses
}

/** Checks that another key is served while the flood still holds its memory: all its responses are refusals. */
async function isServed(t: Test, id: string, statuses: () => number[]) {
  const { status } = await post({ source: 'other', type: 't', id }, { authorization: `Bearer ${key}` })
  t.equal(status, 201)
  t.same(new Set(statuses()), new Set([503]))
}

const headOf = (headers: Record<string, string>) =>
  head('POST', '/v1/records', { Authorization: `Bearer ${greedy}`, ...headers })

t.test('a key that announces large bodies and sends almost nothing gets only its share of the memory', async (t) => {
  const headers = { 'Content-Type': 'application/json', 'Content-Length': String(16 * MiB) }
  const statuses = await flood(t, 8, `${headOf(headers)}[`)
  await until('the rest to be refused', () => statuses().length >= 6)
  await isServed(t, 'bodies', statuses)
})

t.test('a key that opens streams of lines and sends nothing on them gets only its share of the memory', async (t) => {
  const headers = { 'Content-Type': 'application/x-ndjson', 'Transfer-Encoding': 'chunked' }
  const statuses = await flood(t, 1030, headOf(headers))
  await until(
    'the rest to be refused',
    () => app.ingestMemory.used > 0.45 * app.ingestMemory.max && statuses().length > 300,
  )
  await isServed(t, 'streams', statuses)
})

// All other keys got 503 after 20 seconds.
t.test('a request of another key overtakes hundreds of waiting strict batches', async (t) => {
  const { app, database, key, makeKey, get } = await createApp(t, {
    FLUSH_CONCURRENCY: '1',
    OUTAGE_HOLD_SECONDS: '100',
  })
  const port = await listen(app)
  const [connections, pipelined] = [20, 30]
  const { token } = await makeKey()
  // From here on, both keys are known. The number of requests that wait for the look-up of an unknown key is limited.
  for (const known of [token, key]) await get('/v1/records', { authorization: `Bearer ${known}` })
  const batch = JSON.stringify(Array(2).fill({ source: 'greedy', type: 't' }))
  const root = connect(database.superUrl)
  t.teardown(() => root.destroy())

  const lock = await root.startTransaction().execute()
  await sql`LOCK TABLE sluice.records IN EXCLUSIVE MODE`.execute(lock)
  const statuses = await flood(t, connections, send(token, batch, 'handling=strict').repeat(pipelined), port)
  await until('all of them to wait', () => app.writer.status.waiting === connections * pipelined)
  const other = exchange(port, send(key, JSON.stringify({ source: 'other', type: 't', id: '1' })))
  await until('the other request to wait', () => app.writer.status.waiting === connections * pipelined + 1)
  await lock.commit().execute()
  t.equal((await other).status, 201)
  await until('all responses', () => statuses().length === connections * pipelined)
  t.same(new Set(statuses()), new Set([201]))

  const { json } = await get('/v1/records?order=asc&limit=10')
  const index = json.records.findIndex(({ source }: { source: string }) => source === 'other')
  // When it arrives, one batch is being written, and the next one already has its turn.
  t.equal(index, 2 * 2, 'two batches of two records are before it')

  function send(token: string, body: string, prefer = ''): string {
    const headers = { Authorization: `Bearer ${token}`, Prefer: prefer, 'Content-Type': 'application/json' }
    return head('POST', '/v1/records', { ...headers, 'Content-Length': String(body.length) }) + body
  }
})

// Bodies were parsed in order of arrival, so one key with many bodies delayed all other keys.
t.test('a request of another key overtakes large bodies that wait to be parsed', async (t) => {
  await until('the memory of the other tests to be released', () => app.ingestMemory.used === 0)
  // Each of these waits for a turn before it is decoded.
  const large = `${' '.repeat(MiB)}x`
  const answered: string[] = []
  const send = (token: string) =>
    post(large, { authorization: `Bearer ${token}` }).then(({ status }) => {
      t.equal(status, 400)
      answered.push(token)
    })
  // From here on, both keys are known: no request waits for a look-up.
  for (const token of [greedy, key]) await send(token)
  answered.splice(0)
  await Promise.all([...Array(20).fill(greedy), key].map(send))
  const before = answered.indexOf(key)
  t.ok(before < 5, `${before} of 20 are answered before`)
})

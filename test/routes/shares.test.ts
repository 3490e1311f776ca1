import { once } from 'node:events'
import { connect as open } from 'node:net'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { exchange, head, listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

// One key takes as much as it can, and another one's requests must not notice.

const { app, key, makeKey, post } = await createApp(t)
const port = await listen(app)
const greedy = (await makeKey()).token
const MiB = 1024 * 1024

/** @returns the statuses that came on all of these connections */
async function flood(t: Test, connections: number, bytes: string, to = port): Promise<() => number[]> {
  const answers: number[] = []
  for (let n = 0; n < connections; n++) {
    const socket = open(to, '127.0.0.1')
    t.teardown(() => socket.destroy())
    socket.on('data', (bytes) => {
      for (const [, status] of String(bytes).matchAll(/HTTP\/1\.1 (\d+) /g)) answers.push(Number(status))
    })
    await once(socket, 'connect')
    socket.write(bytes)
  }
  return () => answers
}

/** Another key is served while the flood keeps what it got: none of its requests ends but by a refusal. */
async function isServed(t: Test, id: string, statuses: () => number[]) {
  const { status } = await post({ source: 'other', type: 't', id }, { authorization: `Bearer ${key}` })
  t.equal(status, 201)
  t.same(new Set(statuses()), new Set([503]))
}

const headOf = (headers: Record<string, string>) =>
  head('POST', '/v1/records', { Authorization: `Bearer ${greedy}`, ...headers })

t.test(
  'a key that announces large bodies, and sends next to nothing of them, takes no more than its share',
  async (t) => {
    const headers = { 'Content-Type': 'application/json', 'Content-Length': String(16 * MiB) }
    const statuses = await flood(t, 8, `${headOf(headers)}[`)
    await until('the rest to be refused', () => statuses().length >= 6)
    await isServed(t, 'bodies', statuses)
  },
)

t.test('a key that opens streams of lines, and sends nothing on them, takes no more than its share', async (t) => {
  const headers = { 'Content-Type': 'application/x-ndjson', 'Transfer-Encoding': 'chunked' }
  const statuses = await flood(t, 1030, headOf(headers))
  await until(
    'the rest to be refused',
    () => app.ingestMemory.used > 0.45 * app.ingestMemory.max && statuses().length > 300,
  )
  await isServed(t, 'streams', statuses)
})

// 503 "The database is away" was what everybody else got, after 20 seconds.
t.test('a key with hundreds of strict batches that wait is passed by another key at once', async (t) => {
  const { app, database, key, makeKey, get } = await createApp(t, {
    FLUSH_CONCURRENCY: '1',
    OUTAGE_HOLD_SECONDS: '100',
  })
  const port = await listen(app)
  const [connections, pipelined] = [20, 30]
  const { token } = await makeKey()
  const batch = JSON.stringify(Array(2).fill({ source: 'greedy', type: 't' }))
  const root = connect(database.superUrl)
  t.teardown(() => root.destroy())

  const lock = await root.startTransaction().execute()
  await sql`LOCK TABLE sluice.records IN EXCLUSIVE MODE`.execute(lock)
  const statuses = await flood(t, connections, send(token, batch, 'handling=strict').repeat(pipelined), port)
  await until('all of them to wait', () => app.writer.status.waiting === connections * pipelined)
  const other = exchange(port, send(key, JSON.stringify({ source: 'other', type: 't', id: '1' })))
  await until('the other one to wait', () => app.writer.status.waiting === connections * pipelined + 1)
  await lock.commit().execute()
  t.equal((await other).status, 201)
  await until('all answers', () => statuses().length === connections * pipelined)
  t.same(new Set(statuses()), new Set([201]))

  const { json } = await get('/v1/records?order=asc&limit=10')
  const place = json.records.findIndex(({ source }: { source: string }) => source === 'other')
  // One batch is at the database when it comes, and the next one has its turn by then.
  t.equal(place, 2 * 2, 'two batches of two are before it')

  function send(token: string, body: string, prefer = ''): string {
    const headers = { Authorization: `Bearer ${token}`, Prefer: prefer, 'Content-Type': 'application/json' }
    return head('POST', '/v1/records', { ...headers, 'Content-Length': String(body.length) }) + body
  }
})

// Bodies were parsed in order of arrival, so one key with many bodies delayed all other keys.
t.test('a key whose large bodies wait to be read is passed by another key at once', async (t) => {
  await until('the memory of the others to be free', () => app.ingestMemory.used === 0)
  // Each of these waits for a turn before it is decoded.
  const large = `${' '.repeat(MiB)}x`
  const answered: string[] = []
  const send = (token: string) =>
    post(large, { authorization: `Bearer ${token}` }).then(({ status }) => {
      t.equal(status, 400)
      answered.push(token)
    })
  // Both keys are known from here on: nobody waits for one to be looked up.
  for (const token of [greedy, key]) await send(token)
  answered.splice(0)
  await Promise.all([...Array(20).fill(greedy), key].map(send))
  const place = answered.indexOf(key)
  t.ok(place < 5, `${place} of 20 are answered before`)
})

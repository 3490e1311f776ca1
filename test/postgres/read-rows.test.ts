import { type AddressInfo, createServer, connect as dial, type Socket } from 'node:net'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { connect as connectPool } from '../../src/postgres/connect.ts'
import { readRows } from '../../src/postgres/read-rows.ts'
import type { Database } from '../../src/postgres/tables.ts'
import { stopClock } from '../helpers/clock.ts'
import { connect } from '../helpers/connect.ts'
import { createEmptyDatabase } from '../helpers/postgres.ts'
import { until } from '../helpers/until.ts'

const database = await createEmptyDatabase(t)
const root = connect(database.superUrl) as never
t.teardown(() => (root as { destroy(): Promise<void> }).destroy())

/** The clock is stopped: however slow the machine is, a login or a cancel request times out only if the test lets time pass. */
function open(t: Test, url = database.superUrl) {
  const clock = stopClock(t)
  const db = connectPool({ url, name: 'reads', connections: 1, statementTimeoutMs: 60_000, onError: () => {} })
  t.teardown(() => db.destroy())
  return { clock, db }
}

const { signal } = new AbortController()
const countRunning = async () =>
  (
    await sql`SELECT FROM pg_stat_activity
    WHERE datname = ${database.name} AND application_name = 'reads' AND state = 'active'`.execute(root)
  ).rows.length
const pidOf = async (db: Database) => {
  const pids: number[] = []
  await readRows(db, sql<{ pid: number }>`SELECT pg_backend_pid() AS pid`, signal, ({ pid }) => pids.push(pid))
  return pids[0]
}

t.test('rows arrive one by one, and an error of the server rejects the read', async (t) => {
  const { db } = open(t)
  const rows: number[] = []
  await readRows(db, sql<{ n: number }>`SELECT n FROM generate_series(1, ${5}::integer) AS n`, signal, ({ n }) =>
    rows.push(n),
  )
  t.same(rows, [1, 2, 3, 4, 5])
  await t.rejects(
    readRows(db, sql`SELECT 1 / 0`, signal, () => {}),
    { code: '22012' },
  )
})

t.test('an aborted signal cancels the statement on the server, and the connection stays in use', async (t) => {
  const { db } = open(t)
  const pid = await pidOf(db)
  for (let n = 0; n < 20; n++) {
    const abort = new AbortController()
    const reading = readRows(db, sql`SELECT pg_sleep(${50 + n})`, abort.signal, () => {})
    // Every other statement is cancelled before it is sent, or while it is sent.
    if (n % 2 === 0) await until('the statement to run', async () => (await countRunning()) === 1)
    abort.abort()
    await t.rejects(reading, { name: 'AbortError' })
    await until('the statement to end', async () => (await countRunning()) === 0)
    // A late cancel request would cancel this statement.
    t.equal(await pidOf(db), pid, 'the same connection')
  }
  const reading = readRows(db, sql`SELECT pg_sleep(50)`, AbortSignal.abort(), () => {})
  await t.rejects(reading, { name: 'AbortError' })
})

t.test('if the row handler throws, the statement is cancelled', async (t) => {
  const { db } = open(t)
  const pid = await pidOf(db)
  const rows: number[] = []
  const endless = sql<{ n: number }>`SELECT generate_series(1, 1000000000) AS n`
  const reading = readRows(db, endless, signal, ({ n }) => {
    rows.push(n)
    if (n === 3) throw new Error('too many')
  })
  await t.rejects(reading, { message: 'too many' })
  t.same(rows, [1, 2, 3])
  await until('the statement to end', async () => (await countRunning()) === 0)
  t.equal(await pidOf(db), pid)
})

/** A pool behind a proxy. The proxy accepts every connection, and forwards it if `mode` is 'forward'. */
async function connectThrough(t: Test) {
  const { hostname, port } = new URL(database.superUrl)
  const sockets: Socket[] = []
  const state = { mode: 'forward' as 'forward' | 'stall' | 'close', connections: 0 }
  const proxy = createServer((socket) => {
    state.connections++
    sockets.push(socket.on('error', () => {}))
    if (state.mode === 'close') socket.once('data', () => socket.end())
    if (state.mode !== 'forward') return
    const onward = dial(Number(port), hostname)
    sockets.push(onward.on('error', () => {}))
    socket.pipe(onward).pipe(socket)
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  const url = Object.assign(new URL(database.superUrl), { host: `127.0.0.1:${(proxy.address() as AddressInfo).port}` })
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    proxy.close()
  })
  const { clock, db: through } = open(t, url.href)
  return { through, state, clock }
}

// PostgreSQL could execute such a request later, while the connection runs its next statement.
t.test('if a cancel request gets no response, its connection is not used again', async (t) => {
  const { through, state, clock } = await connectThrough(t)
  const pid = await pidOf(through)
  const abort = new AbortController()
  const reading = readRows(through, sql`SELECT pg_sleep(50)`, abort.signal, () => {})
  await until('the statement to run', async () => (await countRunning()) === 1)
  state.mode = 'stall'
  const rejected = t.rejects(reading, { name: 'AbortError' })
  abort.abort()
  await until('the cancel request', () => state.connections === 2)
  state.mode = 'forward'
  await sql`SELECT pg_cancel_backend(${pid})`.execute(root)
  await clock.tick(3_000)
  await rejected
  t.not(await pidOf(through), pid)
})

// A service in front of several standbys may pass the request to the wrong one.
t.test('a cancel request without effect is sent again', async (t) => {
  const { through, state } = await connectThrough(t)
  const pid = await pidOf(through)
  const abort = new AbortController()
  const reading = readRows(through, sql`SELECT pg_sleep(50)`, abort.signal, () => {})
  await until('the statement to run', async () => (await countRunning()) === 1)
  state.mode = 'close'
  abort.abort()
  await until('two cancel requests', () => state.connections > 2)
  state.mode = 'forward'
  await t.rejects(reading, { name: 'AbortError' })
  await until('the statement to end', async () => (await countRunning()) === 0)
  t.equal(await pidOf(through), pid)
})

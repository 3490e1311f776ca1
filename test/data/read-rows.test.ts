import { type AddressInfo, createServer, connect as dial, type Socket } from 'node:net'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { connect as connectPool } from '../../src/data/connect.ts'
import { readRows } from '../../src/data/read-rows.ts'
import type { Database } from '../../src/data/schema.ts'
import { stopClock } from '../helpers/clock.ts'
import { connect } from '../helpers/connect.ts'
import { createEmptyDatabase } from '../helpers/postgres.ts'
import { until } from '../helpers/until.ts'

const database = await createEmptyDatabase(t)
const root = connect(database.superUrl) as never
t.teardown(() => (root as { destroy(): Promise<void> }).destroy())

/** However long this machine takes, no login and no cancel request is late, but where a test lets time pass. */
function open(t: Test, url = database.superUrl) {
  const clock = stopClock(t)
  const db = connectPool({ url, name: 'reads', connections: 1, statementTimeoutMs: 60_000, onError: () => {} })
  t.teardown(() => db.destroy())
  return { clock, db }
}

const { signal } = new AbortController()
const running = async () =>
  (
    await sql`SELECT FROM pg_stat_activity
    WHERE datname = ${database.name} AND application_name = 'reads' AND state = 'active'`.execute(root)
  ).rows.length
const backend = async (of: Database) => {
  const pids: number[] = []
  await readRows(of, sql<{ pid: number }>`SELECT pg_backend_pid() AS pid`, signal, ({ pid }) => pids.push(pid))
  return pids[0]
}

t.test('rows are handed over one by one, and errors of the server arrive', async (t) => {
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

t.test('a statement whose signal aborts is cancelled at the server, and the connection goes on', async (t) => {
  const { db } = open(t)
  const pid = await backend(db)
  for (let n = 0; n < 20; n++) {
    const leaving = new AbortController()
    const reading = readRows(db, sql`SELECT pg_sleep(${50 + n})`, leaving.signal, () => {})
    // Every other one is cancelled before or while it is sent.
    if (n % 2 === 0) await until('the statement', async () => (await running()) === 1)
    leaving.abort()
    await t.rejects(reading, { name: 'AbortError' })
    await until('its end', async () => (await running()) === 0)
    // A cancel request that is late would hit this one.
    t.equal(await backend(db), pid, 'the same connection')
  }
  const reading = readRows(db, sql`SELECT pg_sleep(50)`, AbortSignal.abort(), () => {})
  await t.rejects(reading, { name: 'AbortError' })
})

t.test('when a row is refused, the statement is cancelled', async (t) => {
  const { db } = open(t)
  const pid = await backend(db)
  const rows: number[] = []
  const endless = sql<{ n: number }>`SELECT generate_series(1, 1000000000) AS n`
  const reading = readRows(db, endless, signal, ({ n }) => {
    rows.push(n)
    if (n === 3) throw new Error('too many')
  })
  await t.rejects(reading, { message: 'too many' })
  t.same(rows, [1, 2, 3])
  await until('its end', async () => (await running()) === 0)
  t.equal(await backend(db), pid)
})

/** A pool whose connections pass through here. What comes while `fate` is not 'passed' is accepted, and goes no further. */
async function connectThrough(t: Test) {
  const { hostname, port } = new URL(database.superUrl)
  const sockets: Socket[] = []
  const state = { fate: 'passed' as 'passed' | 'kept' | 'closed', connections: 0 }
  const proxy = createServer((socket) => {
    state.connections++
    sockets.push(socket.on('error', () => {}))
    if (state.fate === 'closed') socket.once('data', () => socket.end())
    if (state.fate !== 'passed') return
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

// PostgreSQL could still act on such a request when the connection runs its next statement.
t.test('when nobody answers a cancel request, nobody gets that connection again', async (t) => {
  const { through, state, clock } = await connectThrough(t)
  const pid = await backend(through)
  const leaving = new AbortController()
  const reading = readRows(through, sql`SELECT pg_sleep(50)`, leaving.signal, () => {})
  await until('the statement', async () => (await running()) === 1)
  state.fate = 'kept'
  const left = t.rejects(reading, { name: 'AbortError' })
  leaving.abort()
  await until('the cancel request', () => state.connections === 2)
  state.fate = 'passed'
  await sql`SELECT pg_cancel_backend(${pid})`.execute(root)
  await clock.tick(3_000)
  await left
  t.not(await backend(through), pid)
})

// As when a service passes it to another standby.
t.test('a cancel request that does nothing is sent again', async (t) => {
  const { through, state } = await connectThrough(t)
  const pid = await backend(through)
  const leaving = new AbortController()
  const reading = readRows(through, sql`SELECT pg_sleep(50)`, leaving.signal, () => {})
  await until('the statement', async () => (await running()) === 1)
  state.fate = 'closed'
  leaving.abort()
  await until('two cancel requests', () => state.connections > 2)
  state.fate = 'passed'
  await t.rejects(reading, { name: 'AbortError' })
  await until('its end', async () => (await running()) === 0)
  t.equal(await backend(through), pid)
})

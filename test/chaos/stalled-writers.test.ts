import { once } from 'node:events'
import { sql } from 'kysely'
import pg from 'pg'
import t, { type Test } from 'tap'
import { openPostgres } from '../../scripts/durability/postgres.ts'
import { endStalledWriters, WRITERS } from '../../src/data/stalled-writers.ts'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { FAST, ownFolder } from '../helpers/own-server.ts'
import { until } from '../helpers/until.ts'

// These tests have their own server. While a COPY waits for its client, no database of its server can be dropped (PostgreSQL's
// DROP DATABASE waits until every backend has closed its files), so the other test files would wait.
const postgres = await openPostgres(await ownFolder(t), FAST)
t.teardown(() => postgres.close())
const { apiUrl, superUrl } = postgres
const database = { name: 'sluice', apiUrl, superUrl, ownerUrl: superUrl, maintenanceUrl: superUrl }

/** A writer that begins a COPY and then stalls, without closing its connection. */
async function startStalledCopy(t: Test, connectionString: string, name = WRITERS) {
  const client = new pg.Client({ connectionString, application_name: name })
  client.on('error', () => {})
  await client.connect()
  t.teardown(() => client.end().catch(() => {}))
  const { promise: copying, resolve } = Promise.withResolvers<void>()
  const { promise: ended, reject } = Promise.withResolvers<never>()
  ended.catch(() => {})
  client.query({
    submit: (connection: { query(sql: string): void }) =>
      connection.query(`
        SELECT pg_current_xact_id(), sluice.current_epoch();
        COPY sluice.records (epoch, n, source, id, type) FROM STDIN`),
    handleRowDescription() {},
    handleDataRow() {},
    handleCopyInResponse: resolve,
    handleCommandComplete() {},
    handleReadyForQuery() {},
    handleError: reject,
  } as never)
  await copying
  return { ended }
}

// Lists upwards waited a minute for the lost instance, until TCP gave up, or forever if its machine still acknowledged packets.
t.test('lists continue after an instance was lost during a COPY', async (t) => {
  const { app, post, get, logs } = await createApp(t, {}, database)
  const root = connect(superUrl)
  t.teardown(() => root.destroy())
  await app.ready()
  // The first write after a start of the server begins an epoch, and the next ones wait for it.
  t.equal((await post({ source: 'shop', type: 't', id: 'first' })).status, 201)
  // Nothing ends the COPY until the list was read, however long that takes.
  await sql`REVOKE EXECUTE ON FUNCTION pg_terminate_backend FROM PUBLIC`.execute(root)
  const { ended } = await startStalledCopy(t, apiUrl)
  t.equal((await post({ source: 'shop', type: 't', id: 'later' })).status, 201)
  const listed = async () => (await get('/v1/records?order=asc')).json.records.map(({ id }: { id: string }) => id)
  t.same(await listed(), ['first'], 'the COPY might still store a record that sorts before `later`')
  await sql`GRANT EXECUTE ON FUNCTION pg_terminate_backend TO PUBLIC`.execute(root)
  await until('the list', async () => (await listed()).length === 2)
  await t.rejects(ended, { code: '57P01' }, 'terminated by another instance')
  const line = await until('the log', () => logs.find(({ msg }) => String(msg).startsWith('a writer stalled')))
  t.match(line, { level: 'warn', pid: Number })
})

// The application_name in the URL replaced the one that is searched for, so no writer was ever terminated.
t.test('a silent writer is found also if DATABASE_URL sets application_name', async (t) => {
  const named = `${apiUrl}?application_name=shop`
  const { app } = await createApp(t, {}, { ...database, apiUrl: named })
  await app.ready()
  const { ended } = await startStalledCopy(t, named)
  await t.rejects(ended, { code: '57P01' })
})

t.test('only a writer that PostgreSQL has waited for too long is terminated', async (t) => {
  const [root, api] = [connect(superUrl), connect(apiUrl)]
  t.teardown(() => Promise.all([root.destroy(), api.destroy()]))
  const endStalled = (during: number, between = 3600) => endStalledWriters(api as never, { during, between })

  // A session of another program.
  await startStalledCopy(t, apiUrl, 'psql')
  // A writer that waits for a lock. It might as well wait for the disk or a standby.
  await sql`SELECT pg_advisory_lock(1)`.execute(root)
  const waiting = new pg.Client({ connectionString: apiUrl, application_name: WRITERS })
  await waiting.connect()
  t.teardown(() => waiting.end())
  const waited = waiting.query('SELECT pg_current_xact_id(), pg_advisory_lock(1)')
  // A writer between two statements. idle_in_transaction_session_timeout applies to it.
  const idle = new pg.Client({ connectionString: apiUrl, application_name: WRITERS })
  // Two errors: the termination, and the end of the connection.
  idle.on('error', () => {})
  await idle.connect()
  t.teardown(() => idle.end())
  await idle.query('BEGIN; SELECT pg_current_xact_id()')
  await until('a session to wait for the lock', async () => {
    const { rows } = await sql`
      SELECT FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()`.execute(root)
    return rows.length > 0
  })
  t.same(await endStalled(0), [])

  const { ended } = await startStalledCopy(t, apiUrl)
  t.same(await endStalled(3600), [], 'a writer that has not been silent for long')
  // PostgreSQL requests the rows, and only a moment later it waits for them.
  await until('the COPY to be terminated', async () => (await endStalled(0)).length === 1)
  await t.rejects(ended, { code: '57P01' })

  await sql`SELECT pg_advisory_unlock(1)`.execute(root)
  await waited
  await idle.query('SELECT')
  // The machine of a writer between two statements may have been lost while it sent the next one.
  const lost = once(idle, 'error')
  // PostgreSQL responds, and only a moment later it waits for the next statement.
  await until('the idle writer to be terminated', async () => (await endStalled(3600, 0)).length === 1)
  t.match(await lost, [{ code: '57P01' }])
})

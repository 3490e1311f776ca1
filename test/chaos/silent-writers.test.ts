import { once } from 'node:events'
import { sql } from 'kysely'
import pg from 'pg'
import t, { type Test } from 'tap'
import { openPostgres } from '../../scripts/durability/postgres.ts'
import { endSilentWriters, WRITERS } from '../../src/data/silent-writers.ts'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { FAST, ownFolder } from '../helpers/own-server.ts'
import { until } from '../helpers/until.ts'

// A server of its own: while a COPY waits for its client, no database of the server can be dropped (PostgreSQL's DROP DATABASE
// waits until every backend has closed its files), and the other test files would wait for this one.
const postgres = await openPostgres(await ownFolder(t), FAST)
t.teardown(() => postgres.close())
const { apiUrl, superUrl } = postgres
const database = { name: 'sluice', apiUrl, superUrl, ownerUrl: superUrl, maintenanceUrl: superUrl }

/** An instance that begins to copy and then says nothing more, not even that its connection ends. */
async function fallSilent(t: Test, connectionString: string, name = WRITERS) {
  const client = new pg.Client({ connectionString, application_name: name })
  client.on('error', () => {})
  await client.connect()
  t.teardown(() => client.end().catch(() => {}))
  const { promise: waits, resolve } = Promise.withResolvers<void>()
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
  await waits
  return { ended }
}

// Lists upwards waited for it for a minute, until TCP gave up, and for ever where the machine still answered for it.
t.test('an instance that is lost amid a COPY holds lists up for seconds', async (t) => {
  const { app, post, get, logs } = await createApp(t, {}, database)
  const root = connect(superUrl)
  t.teardown(() => root.destroy())
  await app.ready()
  // The first write after a start of the server begins an epoch, and the next ones wait for it.
  t.equal((await post({ source: 'shop', type: 't', id: 'first' })).status, 201)
  // Until the list was looked at, however long that takes.
  await sql`REVOKE EXECUTE ON FUNCTION pg_terminate_backend FROM PUBLIC`.execute(root)
  const { ended } = await fallSilent(t, apiUrl)
  t.equal((await post({ source: 'shop', type: 't', id: 'later' })).status, 201)
  const listed = async () => (await get('/v1/records?order=asc')).json.records.map(({ id }: { id: string }) => id)
  t.same(await listed(), ['first'], 'it might still add a record before the later one')
  await sql`GRANT EXECUTE ON FUNCTION pg_terminate_backend TO PUBLIC`.execute(root)
  await until('the list', async () => (await listed()).length === 2)
  await t.rejects(ended, { code: '57P01' }, 'by another instance; TCP would say nothing')
  const line = await until('the log', () => logs.find(({ msg }) => String(msg).startsWith('a writer stalled')))
  t.match(line, { level: 'warn', pid: Number })
})

// The name in the URL took the place of the one that was looked for, and nobody was ever ended.
t.test('a writer is found also where DATABASE_URL names the application', async (t) => {
  const named = `${apiUrl}?application_name=shop`
  const { app } = await createApp(t, {}, { ...database, apiUrl: named })
  await app.ready()
  const { ended } = await fallSilent(t, named)
  await t.rejects(ended, { code: '57P01' })
})

t.test('only a writer that PostgreSQL waits for is ended', async (t) => {
  const [root, api] = [connect(superUrl), connect(apiUrl)]
  t.teardown(() => Promise.all([root.destroy(), api.destroy()]))
  const end = (amid: number, between = 3600) => endSilentWriters(api as never, { amid, between })

  // Of another program.
  await fallSilent(t, apiUrl, 'psql')
  // Waits for a lock, as it might for the disk or a standby.
  await sql`SELECT pg_advisory_lock(1)`.execute(root)
  const waiting = new pg.Client({ connectionString: apiUrl, application_name: WRITERS })
  await waiting.connect()
  t.teardown(() => waiting.end())
  const waited = waiting.query('SELECT pg_current_xact_id(), pg_advisory_lock(1)')
  // Between two statements: idle_in_transaction_session_timeout is for it.
  const idle = new pg.Client({ connectionString: apiUrl, application_name: WRITERS })
  // That it is ended, and then that its connection is.
  idle.on('error', () => {})
  await idle.connect()
  t.teardown(() => idle.end())
  await idle.query('BEGIN; SELECT pg_current_xact_id()')
  await until('the lock to be waited for', async () => {
    const { rows } = await sql`
      SELECT FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()`.execute(root)
    return rows.length > 0
  })
  t.same(await end(0), [])

  const { ended } = await fallSilent(t, apiUrl)
  t.same(await end(3600), [], 'nor one that has not been silent for long')
  // PostgreSQL asks for the rows, and a moment later waits for them.
  await until('it to be ended', async () => (await end(0)).length === 1)
  await t.rejects(ended, { code: '57P01' })

  await sql`SELECT pg_advisory_unlock(1)`.execute(root)
  await waited
  await idle.query('SELECT')
  // Its machine may have been lost while it sent the next statement.
  const lost = once(idle, 'error')
  // PostgreSQL answers, and a moment later waits for what comes next.
  await until('it to be ended as well', async () => (await end(3600, 0)).length === 1)
  t.match(await lost, [{ code: '57P01' }])
})

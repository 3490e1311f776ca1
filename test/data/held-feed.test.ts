import { type ControlledTransaction, sql } from 'kysely'
import t, { type Test } from 'tap'
import { selectFeedHolder } from '../../src/data/held-feed.ts'
import { selectHorizon } from '../../src/data/listing.ts'
import { connect as connectAs } from '../../src/postgres/connect.ts'
import { migrate } from '../../src/postgres/migrate.ts'
import type { Database } from '../../src/postgres/tables.ts'
import { connect } from '../helpers/connect.ts'
import { openOwnServer } from '../helpers/own-server.ts'
import { createDatabase, createEmptyDatabase } from '../helpers/postgres.ts'
import { until } from '../helpers/until.ts'

// On the shared server, max_prepared_transactions is 0, which is the default, and other test files commit all the time.
const own = await openOwnServer(t, { max_prepared_transactions: '1' })
const owner = connect(own.ownerUrl)
await migrate(owner).finally(() => owner.destroy())
const postgresUrl = new URL('/postgres', own.superUrl).href

type Transaction = ControlledTransaction<unknown>

async function setUp(t: Test) {
  const database = await createDatabase(t)
  const api = connectApi(t, database.apiUrl)
  return {
    ...database,
    api,
    /** Begins a transaction, and commits another one behind it. */
    async begin(url: string) {
      const begun = await begin(t, url)
      await commitBehind(api)
      return begun
    },
  }
}

function connectApi(t: Test, url: string): Database {
  const api = connectAs({ url, name: 'test', connections: 1, statementTimeoutMs: 0, onError: () => {} })
  t.teardown(() => api.destroy())
  return api
}

/** Begins a transaction that has a transaction id, in a session of its own. */
async function begin(t: Test, url: string): Promise<{ trx: Transaction; xid: string; pid: number }> {
  const trx = await beginReading(t, url)
  return { trx, ...(await identify(trx)) }
}

/** The same without a transaction id. */
async function beginReading(t: Test, url: string): Promise<Transaction> {
  const db = connect(url)
  t.teardown(() => db.destroy())
  return db.startTransaction().execute()
}

async function identify(trx: Transaction): Promise<{ xid: string; pid: number }> {
  const { rows } = await sql<{ xid: string; pid: number }>`
    SELECT pg_current_xact_id()::text AS xid, pg_backend_pid() AS pid`.execute(trx)
  return rows[0] as { xid: string; pid: number }
}

/** Commits a transaction behind all those that are open. */
const commitBehind = (db: Database) => sql`SELECT pg_current_xact_id()`.execute(db)

t.test('an open transaction holds the feed until it commits or rolls back', async (t) => {
  const { api, apiUrl, begin, name } = await setUp(t)
  t.equal(await selectFeedHolder(api), undefined)
  for (const end of ['commit', 'rollback'] as const) {
    const { trx, xid, pid } = await begin(`${apiUrl}?application_name=shop`)
    const expected = { xid, pid, gid: null, database: name, user: 'sluice_api', application: 'shop' }
    const held = await selectFeedHolder(api)
    t.match(held, { ...expected, state: 'idle in transaction' })
    await sql`SELECT pg_sleep(0.1)`.execute(api)
    const later = await selectFeedHolder(api)
    t.match(later, expected)
    t.ok((later?.seconds as number) >= (held?.seconds as number) + 0.1, `${held?.seconds} s, then ${later?.seconds} s`)
    t.equal((await selectHorizon(api)).xid, xid, 'the feed ends there')
    await trx[end]().execute()
    t.equal(await selectFeedHolder(api), undefined, end)
  }
})

t.test('a statement that runs is active, and seconds count from the beginning of its transaction', async (t) => {
  const { api, apiUrl, begin } = await setUp(t)
  const { trx, xid } = await begin(apiUrl)
  await sql`SELECT pg_sleep(0.1)`.execute(trx)
  const running = sql`SELECT pg_sleep(30)`.execute(trx).catch((error) => error)
  const { rows } = await sql<{ state: string; seconds: number }>`
    SELECT extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds FROM pg_stat_activity
    WHERE backend_xid = ${xid}::xid`.execute(api)
  const held = await until('the statement to run', async () => {
    const found = await selectFeedHolder(api)
    return found?.state === 'active' && found
  })
  t.equal(held.xid, xid)
  t.ok((held.seconds as number) >= (rows[0]?.seconds as number), `${held.seconds} s`)
  await sql`SELECT pg_cancel_backend(${held.pid}::integer)`.execute(api)
  t.match(await running, { code: '57014' })
  await trx.rollback().execute()
})

t.test('a transaction that only reads, or that runs in another database, does not count', async (t) => {
  const { api, apiUrl, begin: beginHere } = await setUp(t)
  const reading = await beginReading(t, apiUrl)
  await sql`SELECT FROM sluice.records`.execute(reading)
  const elsewhere = await begin(t, (await createEmptyDatabase(t)).superUrl)
  await commitBehind(api)
  t.equal(await selectFeedHolder(api), undefined)
  const here = await beginHere(apiUrl)
  t.match(await selectFeedHolder(api), { xid: here.xid, pid: here.pid }, 'although the other one is older')
  await Promise.all([reading, elsewhere.trx, here.trx].map((trx) => trx.rollback().execute()))
})

t.test('of several transactions, the one that got its transaction id first holds the feed', async (t) => {
  const { api, apiUrl, begin } = await setUp(t)
  const early = await beginReading(t, apiUrl)
  await sql`SELECT`.execute(early)
  const first = await begin(apiUrl)
  const second = await identify(early)
  await commitBehind(api)
  t.match(await selectFeedHolder(api), { xid: first.xid })
  await first.trx.rollback().execute()
  t.match(await selectFeedHolder(api), { xid: second.xid, pid: second.pid })
  await early.rollback().execute()
})

// pg_stat_activity shows these columns to a superuser, to members of pg_read_all_stats, and to the session's own role.
t.test('of a session of another role, the API sees who it is, but neither its state nor its age', async (t) => {
  const { api, superUrl, begin } = await setUp(t)
  const { trx, xid, pid } = await begin(`${superUrl}?application_name=psql`)
  const expected = { xid, pid, user: 'postgres', application: 'psql' }
  t.match(await selectFeedHolder(api), { ...expected, state: 'unknown', seconds: null })
  t.match(await selectFeedHolder(connectApi(t, superUrl)), {
    ...expected,
    state: 'idle in transaction',
    seconds: Number,
  })
  await trx.rollback().execute()
})

t.test('the query does not wait for a lock on the table of records', async (t) => {
  const { api, ownerUrl, begin } = await setUp(t)
  const { trx, xid } = await begin(ownerUrl)
  await sql`LOCK TABLE sluice.records, sluice.epochs IN ACCESS EXCLUSIVE MODE`.execute(trx)
  await sql`SET statement_timeout = '10s'`.execute(api)
  t.match(await selectFeedHolder(api), { xid, user: 'sluice_owner' })
  await trx.rollback().execute()
})

t.test('a transaction counts although nothing is committed behind it', async (t) => {
  const api = connectApi(t, own.apiUrl)
  const { trx, xid } = await begin(t, own.apiUrl)
  // Autovacuum may have a transaction between the last one that ended and this one.
  const held = await until('the transaction to be found', () => selectFeedHolder(api))
  t.equal(held.xid, xid)
  await trx.rollback().execute()
})

t.test('a prepared transaction holds the feed, also in another database, until somebody ends it', async (t) => {
  const api = connectApi(t, own.apiUrl)
  for (const [url, database, end] of [
    [own.superUrl, 'sluice', sql`ROLLBACK PREPARED 'shop'`],
    [postgresUrl, 'postgres', sql`COMMIT PREPARED 'shop'`],
  ] as const) {
    const { trx, xid } = await begin(t, url)
    await sql`PREPARE TRANSACTION 'shop'`.execute(trx)
    // The session no longer has a transaction. This only gives the connection back.
    await trx.rollback().execute()
    await commitBehind(api)
    t.match(await selectFeedHolder(api), {
      ...{ xid, pid: null, gid: 'shop', database, user: 'postgres', application: null, state: 'prepared' },
      seconds: Number,
    })
    t.equal((await selectHorizon(api)).xid, xid, 'the feed ends there')
    const root = connect(url)
    await end.execute(root).finally(() => root.destroy())
    t.equal(await selectFeedHolder(api), undefined, database)
  }
})

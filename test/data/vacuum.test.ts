import { type Kysely, sql } from 'kysely'
import t, { type Test } from 'tap'
import { deleteBatch } from '../../src/data/delete-records.ts'
import { beginRetention } from '../../src/data/maintenance.ts'
import { vacuumRecords } from '../../src/data/vacuum.ts'
import { connect as connectAs } from '../../src/postgres/connect.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { addRecords, many } from '../helpers/retention.ts'
import { until } from '../helpers/until.ts'

const DAY = 86_400
const forever = new AbortController().signal

t.test('after VACUUM, as many new records as were deleted fit into the same files', async (t) => {
  const { owner, maintenance } = await start(t)
  const half = (age: number) => many(5000, () => ({ id: crypto.randomUUID(), size: 700, age }))
  await addRecords(owner, half(2 * DAY))
  await addRecords(owner, half(0))
  await maintenance.connection().execute(async (session) => {
    await beginRetention(session)
    await removeOld(session)
    t.ok(await vacuumRecords(session, maintenance, forever))
  })
  const before = await sizes(owner)
  await addRecords(owner, half(0))
  const after = await sizes(owner)
  t.equal(after.heap, before.heap)
  // Identities are random, so no page of the index is empty, and sometimes a page is split.
  t.ok(after.all <= before.all * 1.05, `${before.all} bytes before, ${after.all} after`)
})

t.test('VACUUM yields to a statement that waits for the table, such as a migration', async (t) => {
  const { owner, maintenance } = await startSlow(t)
  const progress = sql`SELECT FROM pg_stat_progress_vacuum WHERE datname = current_database()`
  const vacuumed = maintenance.connection().execute((session) => vacuumRecords(session, maintenance, forever))
  await until('the VACUUM to begin', async () => (await progress.execute(owner)).rows.length > 0)
  await sql`ALTER TABLE sluice.records SET (fillfactor = 90)`.execute(owner)
  t.equal(await vacuumed, false)
})

t.test('VACUUM ends on the stop signal, also if the signal comes before it begins', async (t) => {
  const { owner, maintenance } = await startSlow(t)
  const progress = sql`SELECT FROM pg_stat_progress_vacuum WHERE datname = current_database()`
  const stop = new AbortController()
  const vacuumed = maintenance.connection().execute((session) => vacuumRecords(session, maintenance, stop.signal))
  await until('the VACUUM to begin', async () => (await progress.execute(owner)).rows.length > 0)
  stop.abort()
  t.equal(await vacuumed, false)
  const again = maintenance.connection().execute((session) => vacuumRecords(session, maintenance, stop.signal))
  t.equal(await again, false)
})

t.test('VACUUM gives up if another session locks the table', async (t) => {
  const { owner, maintenance } = await start(t)
  const other = await owner.startTransaction().execute()
  await sql`LOCK TABLE sluice.records IN SHARE UPDATE EXCLUSIVE MODE`.execute(other)
  const vacuumed = await maintenance.connection().execute(async (session) => {
    await beginRetention(session)
    return vacuumRecords(session, maintenance, forever)
  })
  t.equal(vacuumed, false)
  await other.rollback().execute()
})

async function start(t: Test) {
  const { name, ownerUrl, superUrl, maintenanceUrl } = await createDatabase(t)
  const owner = connect(ownerUrl)
  // The role that runs it in the cluster.
  const maintenance = connectAs({
    url: maintenanceUrl,
    name: 'test',
    connections: 2,
    statementTimeoutMs: 0,
    onError: () => {},
  })
  t.teardown(() => Promise.all([owner.destroy(), maintenance.destroy()]))
  return { name, owner, superUrl, maintenance }
}

/** A database in which VACUUM pauses after every page and so takes seconds. */
async function startSlow(t: Test) {
  const all = await start(t)
  const root = connect(all.superUrl)
  await sql`ALTER DATABASE ${sql.id(all.name)} SET vacuum_cost_limit = 1`.execute(root).finally(() => root.destroy())
  await addRecords(
    all.owner,
    many(20_000, () => ({ age: 2 * DAY, size: 1000 })),
  )
  await removeOld(all.maintenance)
  return all
}

async function removeOld(db: Parameters<typeof deleteBatch>[0]): Promise<void> {
  const before = new Date(Date.now() - DAY * 1000).toISOString()
  const bounds = {
    after: { epoch: 0, xid: '0', n: '0' },
    until: { epoch: 2 ** 31 - 1, xid: '0', n: '0' },
    limit: 100_000,
    maxBytes: 1e9,
  }
  const deletion = { selection: {}, before, upTo: undefined, keepForConsumers: false }
  await deleteBatch(db, [deletion], bounds, { dryRun: false, begun: before })
}

async function sizes(db: Kysely<unknown>): Promise<{ heap: number; all: number }> {
  const { rows } = await sql<{ heap: string; all: string }>`
    SELECT pg_relation_size('sluice.records') AS heap, pg_total_relation_size('sluice.records') AS "all"`.execute(db)
  return { heap: Number(rows[0]?.heap), all: Number(rows[0]?.all) }
}

import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { makeOld } from '../../scripts/bench/stats/old-records.ts'
import { selectRollupState } from '../../src/data/rollup-state.ts'
import { countRecords, type RollupPart } from '../../src/data/rollups.ts'
import { connect } from '../../src/postgres/connect.ts'
import { connect as connectAs } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { countReads } from '../helpers/record-reads.ts'
import { until } from '../helpers/until.ts'

/** A database with this many old records. */
async function prepare(t: Test, records: number) {
  const { apiUrl, superUrl } = await createDatabase(t)
  const root = connectAs(superUrl, 2)
  const db = connect({ url: apiUrl, name: 'backfill', connections: 1, statementTimeoutMs: 60_000, onError: () => {} })
  t.teardown(() => Promise.all([root.destroy(), db.destroy()]))
  let stored = 0
  const store = async (records: number) => {
    stored += records
    await sql`
      INSERT INTO sluice.records (epoch, n, source, id, type)
      SELECT (SELECT max(epoch) FROM sluice.epochs), n, 's', n::text, 't'
      FROM generate_series(${stored - records + 1}::integer, ${stored}::integer) AS n`.execute(root)
  }
  await store(records)
  await makeOld(root)
  return { root, db, store, count: (part: RollupPart) => countRecords(db, { part, limit: 1, maxSeries: 1000 }) }
}

// So that old records take a fifth of one connection, and new records and the feed have time between the batches.
t.test('old records rest four times as long as the batch took', async (t) => {
  const { root, count } = await prepare(t, 2)
  const lock = await root.startTransaction().execute()
  await sql`LOCK TABLE sluice.rollups IN EXCLUSIVE MODE`.execute(lock)
  const counting = count('backfill')
  // The batch waits here for most of its time, also on a slow machine.
  const { begun, least } = await until('a long batch', async () => {
    const { rows } = await sql<{ begun: string; least: number }>`
      SELECT xact_start::text AS begun, 1000 * extract(epoch FROM clock_timestamp() - xact_start)::float8 AS least FROM pg_stat_activity
      WHERE datname = current_database() AND application_name = 'backfill' AND wait_event_type = 'Lock'`.execute(root)
    return rows.find(({ least }) => least > 400)
  })
  await lock.rollback().execute()
  t.equal(await counting, 1)
  t.equal(await count('backfill'), undefined)
  const readRest = async () => {
    const { rows } = await sql<{ most: number; rest: number; is_over: boolean }>`
      SELECT 1000 * extract(epoch FROM clock_timestamp() - ${begun}::timestamptz)::float8 AS most,
             1000 * extract(epoch FROM rest_until - ${begun}::timestamptz)::float8 AS rest, now() > rest_until AS is_over
      FROM sluice.rollup_progress WHERE part = 'backfill'`.execute(root)
    return rows[0] as (typeof rows)[0] & object
  }
  // Since the batch began: the batch, and four times as much.
  const { most, rest } = await readRest()
  t.ok(rest >= 5 * least && rest <= 5 * most, `${rest} ms after the beginning of a batch of ${least} to ${most} ms`)
  await until('the end of the rest', async () => (await readRest()).is_over)
  t.equal(await count('backfill'), 1)
})

t.test('old records rest for all instances, and new ones do not', async (t) => {
  const { root, store, count } = await prepare(t, 2)
  await store(1)
  t.equal(await count('backfill'), 1)
  await sql`UPDATE sluice.rollup_progress SET rest_until = now() + interval '1 hour' WHERE part = 'backfill'`.execute(
    root,
  )
  t.equal(await count('backfill'), undefined)
  t.equal(await count('live'), 1)
  await sql`UPDATE sluice.rollup_progress SET rest_until = now()`.execute(root)
  t.equal(await count('backfill'), 1)
})

// In a restored database, the transaction ids start over, and the feed shows old records only when a new epoch begins.
t.test('old records that the feed does not show yet are counted later', async (t) => {
  const { root, db, count } = await prepare(t, 1)
  await sql`UPDATE sluice.records SET xid = '18446744073709551000'`.execute(root)
  await makeOld(root)
  t.equal(await count('backfill'), 0)
  t.match(await selectRollupState(db), { backfill: { records: 0 } })
  await sql`SELECT sluice.current_epoch((SELECT max(epoch) FROM sluice.epochs), '18446744073709551615')`.execute(root)
  t.equal(await count('backfill'), 1)
  await sql`UPDATE sluice.rollup_progress SET rest_until = now()`.execute(root)
  t.equal(await count('backfill'), 0)
  t.match(await selectRollupState(db), { backfill: undefined })
})

// From the beginning of the feed on, the planner expects all records. With little memory, it would read all of another index to save a sort.
t.test('the first batch of old records reads only its own', async (t) => {
  const { apiUrl, superUrl } = await createDatabase(t)
  const root = connectAs(superUrl)
  t.teardown(() => root.destroy())
  await sql`
    INSERT INTO sluice.records (epoch, n, received_at, source, id, type, data)
    SELECT (SELECT max(epoch) FROM sluice.epochs), n, now() - make_interval(hours => n % 8760), 's' || n % 5, n::text, 't' || n % 4,
           to_json(repeat('x', 200))
    FROM generate_series(1, 50000) AS n`.execute(root)
  await sql`VACUUM (ANALYZE) sluice.records`.execute(root)
  await makeOld(root)
  const url = new URL(apiUrl)
  await sql`ALTER ROLE ${sql.id(url.username)} IN DATABASE ${sql.id(url.pathname.slice(1))} SET work_mem = '64kB'`.execute(
    root,
  )
  const db = connect({ url: apiUrl, name: 'backfill', connections: 1, statementTimeoutMs: 60_000, onError: () => {} })
  t.teardown(() => db.destroy())
  const before = await countReads(db, root)
  t.equal(await countRecords(db, { part: 'backfill', limit: 100, maxSeries: 1000 }), 100)
  // The index to find the last of them, then the index and the rows to count them.
  t.equal((await countReads(db, root)) - before, 300)
})

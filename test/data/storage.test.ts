import { randomBytes } from 'node:crypto'
import { type Kysely, sql } from 'kysely'
import t, { type Test } from 'tap'
import { selectReusableBytes, selectStorageSize } from '../../src/data/storage.ts'
import { connect as connectAs } from '../../src/postgres/connect.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'

const MB = 1_000_000

/** A database, with a connection as the API and one as the owner. */
async function setUp(t: Test) {
  const database = await createDatabase(t)
  const options = { url: database.apiUrl, name: 'test', connections: 1, statementTimeoutMs: 0, onError: () => {} }
  const api = connectAs(options)
  const owner = connect(database.ownerUrl)
  t.teardown(() => Promise.all([api.destroy(), owner.destroy()]))
  return { api, owner }
}

/** Inserts rows with a payload of `size` bytes that do not compress. */
async function fill(db: Kysely<unknown>, source: string, rows: number, size: number): Promise<void> {
  const payload = JSON.stringify(randomBytes(size).toString('base64').slice(0, size))
  await sql`
    INSERT INTO sluice.records (epoch, n, source, id, type, data)
    SELECT 1, n, ${source}, 'order-' || n, 'order.placed', ${payload}::json
    FROM generate_series(1, ${rows}::integer) AS n`.execute(db)
}

/** PostgreSQL adds the statistics of a session within seconds; this does it at once. */
const flush = (db: Kysely<unknown>) => sql`SELECT pg_stat_force_next_flush()`.execute(db)

async function fileSize(db: Kysely<unknown>): Promise<number> {
  const { rows } = await sql<{ bytes: string }>`SELECT pg_table_size('sluice.records')::text AS bytes`.execute(db)
  return Number(rows[0]?.bytes)
}

t.test('the size covers the files and the maximum of the write-ahead log', async (t) => {
  const { api, owner } = await setUp(t)
  const before = await selectStorageSize(api)
  await fill(owner, 's', 1000, 10_000)
  const after = await selectStorageSize(api)
  t.ok(after.files - before.files > 9 * MB, `${after.files - before.files} bytes more`)
  const { rows } = await sql<{
    bytes: string
  }>`SELECT pg_size_bytes(current_setting('max_wal_size'))::text AS bytes`.execute(api)
  t.ok(after.wal >= Number(rows[0]?.bytes), `${after.wal} bytes of log`)
})

t.test('a table without deletions has at most 3 % free space, whatever the size of its rows', async (t) => {
  for (const [rows, size] of [
    [0, 0],
    [20_000, 30],
    // Around the size at which a page has five rows or four.
    [5000, 1510],
    [5000, 1570],
    [5000, 1640],
    // Larger rows are in the TOAST table: in one chunk and a bit, in two and a bit, in many.
    [3000, 2110],
    [2000, 4090],
    [2000, 4160],
    [100, 160_000],
  ] as const) {
    const { api, owner } = await setUp(t)
    await fill(owner, 's', rows, size)
    const reusable = await selectReusableBytes(api)
    const table = await fileSize(owner)
    t.ok(reusable <= 0.03 * table, `${rows} rows of ${size} bytes: ${reusable} of ${table}`)
  }
})

t.test('deleted rows become free space only after VACUUM, and new rows use that space', async (t) => {
  const { api, owner } = await setUp(t)
  await fill(owner, 'inside', 40_000, 250)
  await fill(owner, 'apart', 2000, 12_800)
  const [full, files] = [await selectReusableBytes(api), await fileSize(owner)]

  await sql`DELETE FROM sluice.records WHERE n <= (CASE source WHEN 'inside' THEN 30000 ELSE 1500 END)`.execute(owner)
  await flush(owner)
  t.ok((await selectReusableBytes(api)) - full < 0.05 * files, 'dead rows still occupy space')

  await sql`VACUUM sluice.records`.execute(owner)
  const freed = (await selectReusableBytes(api)) - full
  t.ok(freed > 0.55 * files && freed < 0.78 * files, `${freed} of ${files}, three quarters of which are free`)

  await fill(owner, 'inside again', 25_000, 250)
  await fill(owner, 'apart again', 1300, 12_800)
  t.ok((await fileSize(owner)) < files * 1.03, 'the new rows use the free space')
  const left = (await selectReusableBytes(api)) - full
  t.ok(left < 0.2 * files, `${left} left`)
})

t.test('the estimate for a large table, from a sample of its pages, is close', async (t) => {
  const { api, owner } = await setUp(t)
  // 6,000 pages. The sample has 2,000.
  await fill(owner, 's', 24_000, 1600)
  const files = await fileSize(owner)
  t.ok(files > 40 * MB, `${files} bytes`)
  t.ok((await selectReusableBytes(api)) <= 0.1 * files)
  await sql`DELETE FROM sluice.records WHERE n <= 12000`.execute(owner)
  // Otherwise, these rows may be counted as dead after VACUUM has counted none.
  await flush(owner)
  await sql`VACUUM sluice.records`.execute(owner)
  const free = await selectReusableBytes(api)
  t.ok(free > 0.3 * files && free < 0.6 * files, `${free} of ${files}, half of which is free`)
})

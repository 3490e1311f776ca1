import { sql } from 'kysely'
import t from 'tap'
import { withLag } from '../../src/data/consumer-lag.ts'
import { insertConsumer, selectConsumers } from '../../src/data/consumers.ts'
import { connect as connectAs } from '../../src/postgres/connect.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { addRecords, many } from '../helpers/retention.ts'
import { until } from '../helpers/until.ts'

const database = await createDatabase(t)
const owner = connect(database.ownerUrl)
const root = connect(database.superUrl)
// As the API reads them.
const options = { name: 'test', connections: 2, statementTimeoutMs: 0, plan: 'inOrder' as const, onError: () => {} }
const db = connectAs({ ...options, url: database.apiUrl })
t.teardown(() => Promise.all([owner.destroy(), root.destroy(), db.destroy()]))

const START = { epoch: 0, xid: '0', n: 0 }

/** Begins with an empty table. */
const clear = () => sql`TRUNCATE sluice.records, sluice.consumers`.execute(owner)

/** Stores records in the middle of which pages begin and end, in transactions of a thousand. */
async function fill(records: number): Promise<void> {
  for (let left = records; left > 0; left -= 1000) {
    await sql`
      INSERT INTO sluice.records (epoch, n, source, id, type, data)
      SELECT sluice.current_epoch(), n, 's', gen_random_uuid()::text, 't', to_json(repeat('x', 400))
      FROM generate_series(1, ${Math.min(left, 1000)}::integer) AS n`.execute(owner)
  }
}

/** Creates a consumer that has this number of records left to read, and is named after it. */
async function leave(records: number): Promise<void> {
  await sql`
    INSERT INTO sluice.consumers (name, epoch, xid, n)
    SELECT ${String(records)}, epoch, xid, n FROM sluice.records
    ORDER BY epoch DESC, xid DESC, n DESC OFFSET ${records} LIMIT 1`.execute(owner)
}

/** The lags, after transactions of other test files no longer hold the last record back. */
async function lags(): Promise<Record<string, { records: number; is_exact: boolean }>> {
  const { rows } = await sql<{ epoch: number; position: string; n: string }>`
    SELECT epoch, xid::text AS position, n FROM sluice.records ORDER BY epoch DESC, xid DESC, n DESC OFFSET 1 LIMIT 1`.execute(
    owner,
  )
  const { epoch, position: xid, n } = rows[0] as (typeof rows)[number]
  await insertConsumer(db, 'probe', { epoch, xid, n: Number(n) })
  await until('the last record to be in the feed', async () => {
    const [row] = await selectConsumers(db, 'probe')
    return row?.records === 1
  })
  await sql`DELETE FROM sluice.consumers WHERE name = 'probe'`.execute(owner)
  const found = await selectConsumers(db)
  return Object.fromEntries(found.map(({ name, records, is_exact }) => [name, { records, is_exact }]))
}

t.test('the unread records are counted up to ten thousand, and estimated above', async (t) => {
  await clear()
  await fill(40_000)
  for (const left of [1, 999, 10_000, 10_001, 20_000, 39_999]) await leave(left)
  await insertConsumer(db, 'all', START)
  const all = await lags()
  for (const left of [1, 999, 10_000]) t.same(all[left], { records: left, is_exact: true })
  for (const [name, left] of [
    ['10001', 10_001],
    ['20000', 20_000],
    ['39999', 39_999],
    ['all', 40_000],
  ] as const) {
    const { records = 0, is_exact } = all[name] ?? {}
    t.equal(is_exact, false)
    t.ok(records >= 10_001 && Math.abs(records / left - 1) < 0.05, `${records} of ${left}`)
  }
  const [alone] = await selectConsumers(db, '20000')
  t.match(alone, all['20000'], 'the same as in the list')
})

// The distance in pages was negative, and the planner's estimate knew nothing of the new records.
t.test('the estimate is right after deletions, in whose pages new records are', async (t) => {
  await clear()
  await fill(30_000)
  await sql`DELETE FROM sluice.records WHERE n % 2 = 0`.execute(owner)
  await sql`VACUUM sluice.records`.execute(root)
  await fill(20_000)
  for (const left of [15_000, 30_000]) await leave(left)
  const all = await lags()
  for (const left of [15_000, 30_000]) {
    const { records = 0 } = all[left] ?? {}
    t.ok(Math.abs(records / left - 1) < 0.1, `${records} of ${left}`)
  }
})

t.test('records that the feed does not show yet do not count', async (t) => {
  await clear()
  await insertConsumer(db, 'a', START)
  const open = await root.startTransaction().execute()
  await sql`SELECT pg_current_xact_id()`.execute(open)
  await addRecords(
    owner,
    many(3, () => ({ age: 60 })),
  )
  t.match(await selectConsumers(db), [{ records: 0, seconds: 0, is_exact: true }])
  await fill(11_000)
  t.match(await selectConsumers(db), [{ records: 0, seconds: 0 }])
  await open.rollback().execute()
  const row = await until('the records to be in the feed', async () => {
    const [row] = await selectConsumers(db)
    return (row?.records ?? 0) > 10_000 && row
  })
  t.ok(Math.abs(row.records / 11_003 - 1) < 0.05, `${row.records}`)
  t.ok(row.seconds >= 60 && row.seconds < 180, `${row.seconds} s`)
})

t.test('a record that was received in the future has no negative age', async (t) => {
  await clear()
  await addRecords(owner, [{ age: -3600 }])
  await insertConsumer(db, 'a', START)
  const row = await until('the record to be in the feed', async () => {
    const [row] = await selectConsumers(db, 'a')
    return row?.records === 1 && row
  })
  t.equal(row.seconds, 0)
})

// They are counted in another way than a single one.
t.test('the lags of a thousand consumers are right', async (t) => {
  await clear()
  await fill(12_000)
  await sql`
    INSERT INTO sluice.consumers (name, epoch, xid, n)
    SELECT left_over::text, epoch, xid, n FROM (
      SELECT row_number() OVER (ORDER BY epoch DESC, xid DESC, n DESC) - 1 AS left_over, epoch, xid, n FROM sluice.records
    ) AS numbered WHERE left_over % 10 = 7 LIMIT 1000`.execute(owner)
  const rows = await selectConsumers(db)
  t.equal(rows.length, 1000)
  const wrong = rows.filter(({ name, records, is_exact }) => is_exact && records !== Number(name))
  t.same(wrong, [])
})

// Each consumer once passed over all of them: with 400,000 such records, the list of 150 consumers took 25 seconds.
t.test(
  'deleted records that cannot be removed yet are passed over once, however many consumers there are',
  async (t) => {
    await clear()
    await fill(20_000)
    await sql`
    INSERT INTO sluice.consumers (name, epoch, xid, n)
    SELECT ordinal::text, epoch, xid, n FROM (
      SELECT row_number() OVER (ORDER BY epoch, xid, n) AS ordinal, epoch, xid, n FROM sluice.records
    ) AS numbered WHERE ordinal % 100 = 1 AND ordinal < 10000`.execute(owner)
    // While this snapshot is in use, VACUUM keeps what it can see.
    const open = await root.startTransaction().setIsolationLevel('repeatable read').execute()
    await sql`SELECT FROM sluice.records LIMIT 1`.execute(open)
    await sql`DELETE FROM sluice.records`.execute(owner)
    await addRecords(owner, [{ age: 60 }])
    const byAll = await blocks()
    await sql`DELETE FROM sluice.consumers WHERE name <> '1'`.execute(owner)
    const byOne = await blocks()
    await open.rollback().execute()
    t.ok(byAll < byOne * 2, `${byAll} pages for 100 consumers, ${byOne} for one`)
  },
)

/** How many pages the lags of all consumers take. */
async function blocks(): Promise<number> {
  const { rows } = await sql<{ 'QUERY PLAN': string }>`
    EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ${withLag(sql`SELECT * FROM sluice.consumers`, 'many')}`.execute(db)
  const [{ Plan }] = JSON.parse(rows[0]?.['QUERY PLAN'] as string)
  return Plan['Shared Hit Blocks'] + Plan['Shared Read Blocks']
}

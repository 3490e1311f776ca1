import { sql } from 'kysely'
import t from 'tap'
import { connect as connectAs } from '../../src/postgres/connect.ts'
import { DeletedTotals, retain } from '../../src/retention/apply-policies.ts'
import { parsePolicies } from '../../src/retention/policies.ts'
import type { PolicyInput } from '../../src/schemas/policies.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { addRecords, ids, many } from '../helpers/retention.ts'
import { until } from '../helpers/until.ts'

const database = await createDatabase(t)
const owner = connect(database.ownerUrl, 3)
const options = { name: 'test', connections: 1, statementTimeoutMs: 0, onError: () => {} }
const db = connectAs({ ...options, url: database.maintenanceUrl })
t.teardown(() => Promise.all([owner.destroy(), db.destroy()]))

const DAY = 86_400
const OLD = { maxAge: '1d' }
const WAITING = { ...OLD, keepForConsumers: true }

/** Stores ten old records, 0 to 9, and these consumers; each has read the record with that number, or nothing (-1). */
async function setUp(consumers: Record<string, number>): Promise<void> {
  await sql`TRUNCATE sluice.records, sluice.consumers`.execute(owner)
  await addRecords(
    owner,
    many(10, (index) => ({ id: `${index}`, age: 2 * DAY, type: index % 2 === 0 ? 'even' : 'odd' })),
  )
  for (const [name, read] of Object.entries(consumers)) await place(name, read)
}

async function place(name: string, read: number): Promise<void> {
  await sql`
    INSERT INTO sluice.consumers (name, epoch, xid, n)
    SELECT ${name}, coalesce(max(epoch), 0), coalesce(max(xid), '0'), coalesce(max(n), 0) FROM sluice.records WHERE id = ${String(read)}
    ON CONFLICT (name) DO UPDATE SET (epoch, xid, n) = (excluded.epoch, excluded.xid, excluded.n)`.execute(owner)
}

async function apply(policies: PolicyInput[], { dryRun = false, onBatch = () => {} } = {}): Promise<DeletedTotals> {
  const parsed = parsePolicies(JSON.stringify(policies), 'policies.json')
  const removed = new DeletedTotals(parsed)
  const stop = new AbortController().signal
  await retain(db, parsed, {
    dryRun,
    stop,
    maxSeries: 1000,
    onBatch: (batch) => {
      removed.add(batch)
      onBatch()
    },
  })
  return removed
}

/** The consumers that are marked. */
async function marked(): Promise<string[]> {
  const { rows } = await sql<{ name: string }>`
    SELECT name FROM sluice.consumers WHERE overtaken_at IS NOT NULL ORDER BY name`.execute(owner)
  return rows.map(({ name }) => name)
}

t.test('with keepForConsumers, only records that every consumer has read are deleted', async (t) => {
  await setUp({ fast: 8, slow: 3 })
  t.match(await apply([WAITING]), { records: 4, kept: 6, overtaken: new Set() })
  t.same(await ids(owner), ['4', '5', '6', '7', '8', '9'])
  await place('slow', 9)
  t.match(await apply([WAITING]), { records: 5, kept: 1 })
  await sql`DELETE FROM sluice.consumers`.execute(owner)
  t.match(await apply([WAITING]), { records: 1, kept: 0 }, 'without consumers, it waits for nobody')
  t.same(await ids(owner), [])
})

t.test('keepForConsumers limits what maxCount and maxBytes delete as well', async (t) => {
  for (const limit of [{ maxCount: 2 }, { maxBytes: '500B' }]) {
    await setUp({ slow: 3 })
    const all = (await apply([limit], { dryRun: true })).records
    t.match(await apply([{ ...limit, keepForConsumers: true }]), { records: 4, kept: all - 4 })
    t.equal((await ids(owner))[0], '4')
  }
})

t.test('a consumer at the start keeps everything', async (t) => {
  await setUp({ new: -1 })
  t.match(await apply([WAITING]), { records: 0, kept: 10 })
  t.equal((await ids(owner)).length, 10)
})

// Otherwise each run would read everything that one slow consumer keeps.
t.test('a run ends at the last consumer, unless a policy does not wait for it', async (t) => {
  await sql`TRUNCATE sluice.records, sluice.consumers`.execute(owner)
  await addRecords(
    owner,
    many(3000, () => ({ age: 2 * DAY })),
  )
  await place('slow', -1)
  let batches = 0
  const onBatch = () => void batches++
  t.match(await apply([WAITING, { ...WAITING, type: 'other' }], { onBatch }), { records: 0 })
  t.equal(batches, 1)
  await apply([WAITING, { ...OLD, type: 'other' }], { onBatch })
  t.ok(batches > 2, `${batches} batches`)
})

t.test('without the option, consumers that have not read a deleted record are marked, and no others', async (t) => {
  await setUp({ behind: 3, 'at the last deleted': 8, 'has read it': 9, start: -1 })
  t.match(await apply([{ type: 'even', ...OLD }]), { records: 5, kept: 0, overtaken: new Set(['behind', 'start']) })
  t.same(await marked(), ['behind', 'start'])
  // Only odd records are left, of which 9 is the last one.
  t.match(await apply([{ ...OLD, type: 'even' }]), { records: 0, overtaken: new Set() }, 'nothing more was deleted')
})

t.test('a policy with the option does not protect records from a policy without it', async (t) => {
  await setUp({ behind: 3 })
  t.match(await apply([WAITING, { type: 'odd', ...OLD }]), { records: 7, kept: 3, overtaken: new Set(['behind']) })
  t.same(await ids(owner), ['4', '6', '8'])
  t.same(await marked(), ['behind'])
})

t.test('a dry run finds the same and marks nothing', async (t) => {
  await setUp({ behind: 3 })
  t.match(await apply([OLD], { dryRun: true }), { records: 10, overtaken: new Set(['behind']) })
  t.match(await apply([WAITING], { dryRun: true }), { records: 4, kept: 6, overtaken: new Set() })
  t.same(await marked(), [])
  t.equal((await ids(owner)).length, 10)
})

t.test('a run marks a consumer once, and the next run that deletes marks it again', async (t) => {
  await sql`TRUNCATE sluice.records, sluice.consumers`.execute(owner)
  await place('behind', -1)
  const store = () =>
    addRecords(
      owner,
      many(1200, () => ({ age: 2 * DAY })),
    )
  const version = async () => {
    const { rows } = await sql<{
      v: string
    }>`SELECT xmin::text || overtaken_at::text AS v FROM sluice.consumers`.execute(owner)
    return rows[0]?.v
  }
  await store()
  const versions = new Set<unknown>()
  let batches = 0
  const reads: Promise<unknown>[] = []
  await apply([OLD], {
    onBatch: () => {
      batches++
      reads.push(version().then((one) => versions.add(one)))
    },
  })
  await Promise.all(reads)
  t.ok(batches > 1, `${batches} batches`)
  t.equal(versions.size, 1)
  await store()
  t.match(await apply([OLD]), { overtaken: new Set(['behind']) })
  t.notOk(versions.has(await version()))
})

t.test('a consumer that is moved back or created during a run is respected from the next batch on', async (t) => {
  await sql`TRUNCATE sluice.records, sluice.consumers`.execute(owner)
  await addRecords(
    owner,
    many(3000, (index) => ({ id: `${index}`, age: 2 * DAY })),
  )
  await place('reader', 2999)
  let moved: Promise<void> | undefined
  const removed = await apply([WAITING], {
    onBatch: () => {
      moved ??= place('reader', -1)
    },
  })
  await moved
  t.ok(removed.records > 0 && removed.records < 3000, `${removed.records} records were deleted before it moved back`)
  t.equal((await ids(owner)).length, 3000 - removed.records)
  t.same(removed.overtaken, new Set())
})

// The batch and the consumer update the same row. The mark must be right in either order.
t.test('a consumer that stores its offset while a batch deletes is judged by that offset', async (t) => {
  await setUp({ reader: 3 })
  const moving = await owner.startTransaction().execute()
  await sql`
    UPDATE sluice.consumers SET (epoch, xid, n) = (SELECT epoch, xid, n FROM sluice.records WHERE id = '9')`.execute(
    moving,
  )
  const running = apply([OLD])
  await until('the batch to wait for the consumer', async () => {
    const { rows } = await sql`
      SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = current_database()`.execute(
      owner,
    )
    return rows.length > 0
  })
  await moving.commit().execute()
  t.match(await running, { records: 10, overtaken: new Set() })
  t.same(await marked(), [])
})

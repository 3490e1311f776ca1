import fc from 'fast-check'
import {
  type ControlledTransaction,
  type Kysely,
  type PluginTransformQueryArgs,
  type PluginTransformResultArgs,
  sql,
} from 'kysely'
import t from 'tap'
import { makeOld } from '../../scripts/bench/stats/old-records.ts'
import { selectRollupState } from '../../src/data/rollup-state.ts'
import { addUnstored, countRecords, type RollupPart } from '../../src/data/rollups.ts'
import { connect } from '../../src/postgres/connect.ts'
import { retain } from '../../src/retention/apply-policies.ts'
import { parsePolicies } from '../../src/retention/policies.ts'
import { connect as connectAs } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'

const { apiUrl, maintenanceUrl, superUrl } = await createDatabase(t)
// Two may hold a transaction open.
const root = connectAs(superUrl, 4)
const options = { connections: 2, statementTimeoutMs: 60_000, onError: () => {} }
const db = connect({ url: apiUrl, name: 'rollups', ...options })
const maintenance = connect({ url: maintenanceUrl, name: 'maintenance', ...options })
t.teardown(() => Promise.all([root.destroy(), db.destroy(), maintenance.destroy()]))

const PARTS = ['live', 'backfill'] as const

/** As the migration leaves it, when these records are already stored. */
async function reset() {
  await sql`TRUNCATE sluice.records, sluice.epochs, sluice.rollups`.execute(root)
  await sql`DELETE FROM sluice.series WHERE (source, type) <> ('', '')`.execute(root)
  await sql`SELECT sluice.current_epoch()`.execute(root)
  await sql`UPDATE sluice.rollup_progress SET epoch = 0, xid = '0', n = 0, records = 0, folded = 0, rest_until = NULL`.execute(
    root,
  )
  await sql`UPDATE sluice.rollup_progress SET until_epoch = 0, until_xid = '0', until_n = 0 WHERE part = 'backfill'`.execute(
    root,
  )
  await sql`TRUNCATE public.deleted`.execute(root)
}

t.beforeEach(reset)

const count = (part: RollupPart, limit = 20_000, maxSeries = 1000) => countRecords(db, { part, limit, maxSeries })

const endRest = () => sql`UPDATE sluice.rollup_progress SET rest_until = NULL WHERE part = 'backfill'`.execute(root)

/** Without the pauses of the backfill. */
async function countAll(limit?: number, maxSeries?: number) {
  for (const part of PARTS)
    do await endRest()
    while ((await count(part, limit, maxSeries)) !== 0)
}

interface Stored {
  source: string
  type: string
  minute: number
  size: number
}

const make = (source: string, type = 't', minute = 0): Stored => ({ source, type, minute, size: 1 })

let stored = 0

const store = (on: Kysely<unknown>, records: readonly Stored[]) =>
  sql`
    INSERT INTO sluice.records (epoch, n, source, id, type, received_at, data)
    SELECT (SELECT max(epoch) FROM sluice.epochs), ordinal, source, ${`${stored++}-`} || ordinal, type,
           '2026-01-31 23:50:30Z'::timestamptz + make_interval(mins => minute), to_json(repeat('x', size))
    FROM json_to_recordset(${JSON.stringify(records.map((record, ordinal) => ({ ...record, ordinal })))})
         AS record (ordinal integer, source text, type text, minute integer, size integer)`.execute(on)

/** The rollups of all series, and the same from the records, those that were deleted included. Old records have no minutes. */
async function compare() {
  const { rows: counted } = await sql`
    SELECT seconds, start, source, type, records, bytes FROM sluice.rollups JOIN sluice.series USING (series)
    WHERE records <> 0 ORDER BY seconds, start, source, type`.execute(root)
  const { rows: expected } = await sql`
    SELECT seconds, date_bin(make_interval(secs => seconds), received_at, 'epoch') AS start, coalesce(source, '') AS source,
           coalesce(type, '') AS type, count(*)::bigint AS records, sum(pg_column_size(data))::bigint AS bytes
    FROM (SELECT * FROM sluice.records UNION ALL SELECT * FROM public.deleted) AS records, (VALUES (60), (3600), (86400)) AS bucket (seconds)
    WHERE seconds <> 60 OR (epoch, xid, n) > (SELECT until_epoch, until_xid, until_n FROM sluice.rollup_progress WHERE part = 'backfill')
    GROUP BY GROUPING SETS ((1, 2, records.source, records.type), (1, 2, records.type), (1, 2, records.source), (1, 2))
    ORDER BY 1, 2, 3, 4`.execute(root)
  return { counted, expected }
}

const record: fc.Arbitrary<Stored> = fc.record({
  source: fc.constantFrom('shop', 'Shop', 'shop/1', '"\\é'),
  type: fc.constantFrom('order', 'click', "o'brien"),
  minute: fc.nat(30),
  size: fc.nat(300),
})

const step = fc.oneof(
  fc.record({ do: fc.constant('store' as const), records: fc.array(record, { minLength: 1, maxLength: 8 }) }),
  fc.record({ do: fc.constant('begin' as const), records: fc.array(record, { minLength: 1, maxLength: 3 }) }),
  fc.record({ do: fc.constantFrom('commit' as const, 'rollback' as const) }),
  fc.record({
    do: fc.constant('count' as const),
    part: fc.constantFrom<RollupPart>(...PARTS),
    limit: fc.integer({ min: 1, max: 9 }),
  }),
  fc.record({ do: fc.constant('crash' as const), part: fc.constantFrom<RollupPart>(...PARTS) }),
  fc.record({ do: fc.constantFrom('delete' as const, 'retain' as const, 'restart' as const) }),
)

type Step = typeof step extends fc.Arbitrary<infer Value> ? Value : never

async function perform(one: Step, open: ControlledTransaction<unknown>[]): Promise<void> {
  if (one.do === 'store') await store(root, one.records)
  else if (one.do === 'begin') {
    if (open.length === 2) return
    const trx = await root.startTransaction().execute()
    open.push(trx)
    await store(trx, one.records)
  } else if (one.do === 'commit') await open.shift()?.commit().execute()
  else if (one.do === 'rollback') await open.shift()?.rollback().execute()
  else if (one.do === 'count') {
    await endRest()
    await count(one.part, one.limit)
  } else if (one.do === 'delete') await deleteCounted()
  else if (one.do === 'retain') await retainOne()
  else if (one.do === 'crash') await crash(one.part)
  // Waits for running writers.
  else if (open.length === 0)
    await sql`SELECT sluice.current_epoch((SELECT max(epoch) FROM sluice.epochs), '18446744073709551615')`.execute(root)
}

// The comparison also needs the records that were deleted: a trigger copies them.
await sql`CREATE TABLE public.deleted (LIKE sluice.records)`.execute(root)
await sql`
  CREATE FUNCTION public.keep_deleted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
  BEGIN INSERT INTO public.deleted SELECT OLD.*; RETURN NULL; END $$`.execute(root)
await sql`
  CREATE TRIGGER keep_deleted AFTER DELETE ON sluice.records FOR EACH ROW EXECUTE FUNCTION public.keep_deleted()`.execute(
  root,
)

/** Half of the records that are counted. */
const deleteCounted = () =>
  sql`
    DELETE FROM sluice.records USING sluice.rollup_progress AS live, sluice.rollup_progress AS backfill
    WHERE live.part = 'live' AND backfill.part = 'backfill' AND records.n % 2 = 0 AND (
      (records.epoch, records.xid, records.n) <= (backfill.epoch, backfill.xid, backfill.n) OR
      (records.epoch, records.xid, records.n) > (backfill.until_epoch, backfill.until_xid, backfill.until_n) AND
      (records.epoch, records.xid, records.n) <= (live.epoch, live.xid, live.n)
    )`.execute(root)

const KEEP_ONE = parsePolicies('[{ "maxCount": 1 }]', 'policies.json')

/** Deletes all but the newest record, counted or not: retention counts them first. */
const retainOne = () =>
  retain(maintenance, KEEP_ONE, {
    dryRun: false,
    stop: new AbortController().signal,
    maxSeries: 1000,
    onBatch: () => {},
  })

/** While another session has this lock, the sessions that count wait for it after their last statement, before they commit. */
const GATE = 42
await sql`
  CREATE FUNCTION public.wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN PERFORM pg_advisory_xact_lock_shared(${sql.lit(GATE)}); RETURN NULL; END $$`.execute(root)
await sql`
  CREATE CONSTRAINT TRIGGER gate AFTER UPDATE ON sluice.rollup_progress DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION public.wait_at_gate()`.execute(root)

/** How many batches were lost. */
const crashes = { live: 0, backfill: 0 }

/** Kills the session that counts, between its last statement and the commit. */
async function crash(part: RollupPart): Promise<void> {
  await endRest()
  const lock = await root.startTransaction().execute()
  await sql`SELECT pg_advisory_xact_lock(${sql.lit(GATE)})`.execute(lock)
  let isOver = false
  const counting = count(part, 5)
    .catch(() => crashes[part]++)
    .finally(() => {
      isOver = true
    })
  while (!isOver)
    await sql`
      SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND application_name = 'rollups' AND wait_event = 'advisory'`.execute(root)
  await counting
  await lock.rollback().execute()
}

/** So that batches of both parts are lost in each run of this file. */
const examples = PARTS.map((part): [Stored[], Step[]] => [
  [make('a')],
  [
    { do: 'store', records: [make('b')] },
    { do: 'crash', part },
  ],
])

t.test(
  'after any writes, crashes and deletions, the rollups equal a GROUP BY of everything that was stored',
  async (t) => {
    await fc.assert(
      fc.asyncProperty(fc.array(record, { maxLength: 12 }), fc.array(step, { maxLength: 25 }), async (old, steps) => {
        await reset()
        await store(root, old)
        await makeOld(root)
        const open: ControlledTransaction<unknown>[] = []
        for (const each of steps) await perform(each, open)
        for (const trx of open) await trx.commit().execute()
        await countAll(7)
        const { counted, expected } = await compare()
        t.same(counted, expected)
      }),
      { numRuns: 60, examples },
    )
    t.ok(crashes.live > 0 && crashes.backfill > 0, 'batches of both parts were lost')
  },
)

const series = async () => {
  const { rows } = await sql<{ source: string; type: string; records: string }>`
    SELECT source, type, sum(records)::text AS records FROM sluice.series LEFT JOIN sluice.rollups USING (series)
    WHERE seconds = 86400 GROUP BY source, type ORDER BY source, type`.execute(root)
  return rows.map(({ source, type, records }) => [source, type, Number(records)])
}

t.test('beyond the limit, types and sources are counted in the series of everything', async (t) => {
  await store(root, [make('a', 'x'), make('b', 'x'), make('c', 'y')])
  await countAll(20_000, 3)
  t.same(await series(), [
    ['', '', 3],
    ['', 'x', 2],
    ['', 'y', 1],
  ])
  t.equal((await selectRollupState(db)).isLimited, true)
  await store(root, [make('a', 'x'), make('d', 'z')])
  await countAll(20_000, 4)
  t.same(await series(), [
    ['', '', 5],
    ['', 'x', 3],
    ['', 'y', 1],
    ['', 'z', 1],
  ])
  // What was counted without its source stays so.
  await countAll(20_000, 1000)
  t.equal((await selectRollupState(db)).isLimited, true)
})

t.test('a sender with too many sources leaves room for the others', async (t) => {
  const many = Array.from({ length: 50 }, (_, at) => make(`uuid/${at + 100}`, 'flood'))
  await store(root, many)
  await countAll(20_000, 30)
  await store(root, [make('shop', 'order'), make('uuid/999', 'flood')])
  await countAll(20_000, 30)
  t.same(await series(), [
    ['', '', 52],
    ['', 'flood', 51],
    ['', 'order', 1],
    ['shop', '', 1],
    ['shop', 'order', 1],
    ...['uuid/100', 'uuid/101', 'uuid/102'].flatMap((source) => [
      [source, '', 1],
      [source, 'flood', 1],
    ]),
  ])
})

t.test('one session counts at a time', async (t) => {
  await store(root, [make('a')])
  const lock = await root.startTransaction().execute()
  await sql`LOCK TABLE sluice.rollups IN EXCLUSIVE MODE`.execute(lock)
  const first = count('live')
  for (let held = false; !held; ) {
    const { rows } = await sql`SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted`.execute(root)
    held = rows.length > 0
  }
  t.equal(await count('live'), undefined)
  await lock.rollback().execute()
  t.equal(await first, 1)
  t.equal(await count('live'), 0)
})

t.test(
  'records that arrive between the statements of a transaction are counted, in this one or the next',
  async (t) => {
    const arriving = {
      transformQuery: ({ node }: PluginTransformQueryArgs) => node,
      transformResult: async ({ result }: PluginTransformResultArgs) => {
        await store(root, new Array(3).fill({ source: 'shop', type: 'order', minute: 0, size: 1 }))
        return result
      },
    }
    for (let limit = 1; limit <= 12; limit++) {
      await countRecords(db.withPlugin(arriving), { part: 'live', limit, maxSeries: 1000 })
      await countAll()
    }
    const { counted, expected } = await compare()
    t.ok(expected.length > 0)
    t.same(counted, expected)
  },
)

// The feed waits for each transaction with an id.
t.test('while records are read to be counted, the transaction has no id', async (t) => {
  await store(root, [make('a')])
  const lock = await root.startTransaction().execute()
  await sql`LOCK TABLE sluice.records IN ACCESS EXCLUSIVE MODE`.execute(lock)
  const counting = count('live')
  let waiting: { backend_xid: string | null }[] = []
  while (waiting.length === 0)
    waiting = (
      await sql<{ backend_xid: string | null }>`
        SELECT backend_xid::text FROM pg_stat_activity WHERE application_name = 'rollups' AND wait_event_type = 'Lock'`.execute(
        root,
      )
    ).rows
  t.same(waiting, [{ backend_xid: null }])
  await lock.rollback().execute()
  t.equal(await counting, 1)
})

t.test('what was not stored is added to the series that exist, and makes none', async (t) => {
  await store(root, [make('a', 'x')])
  await countAll()
  const start = '2026-01-31T23:59:00.000Z'
  await addUnstored(db, [
    { start, source: 'a', type: 'x', duplicates: 2, rejected: 1 },
    { start, source: 'b', type: 'x', duplicates: 0, rejected: 10 },
    { start, source: 'b', type: 'y', duplicates: 0, rejected: 100 },
    { start, source: '', type: '', duplicates: 0, rejected: 1000 },
  ])
  const { rows } = await sql`
    SELECT source, type, seconds, records::integer, duplicates::integer, rejected::integer
    FROM sluice.rollups JOIN sluice.series USING (series) WHERE rejected > 0 ORDER BY source, type, seconds`.execute(
    root,
  )
  const [whole, type, source, pair] = [
    { source: '', type: '', duplicates: 2, rejected: 1111 },
    { source: '', type: 'x', duplicates: 2, rejected: 11 },
    { source: 'a', type: '', duplicates: 2, rejected: 1 },
    { source: 'a', type: 'x', duplicates: 2, rejected: 1 },
  ].map((counts) => [60, 3600, 86400].map((seconds) => ({ ...counts, seconds, records: seconds === 60 ? 0 : 1 })))
  t.match(rows, [...(whole as object[]), ...(type as object[]), ...(source as object[]), ...(pair as object[])])
  t.equal(rows.length, 12)
})

t.test('a record from the future, after a failover to a slower clock, is behind as well', async (t) => {
  await store(root, [{ ...make('a'), minute: 60 * 24 * 365 * 100 }])
  t.ok((await selectRollupState(db)).lagSeconds > 0)
  await count('live')
  t.equal((await selectRollupState(db)).lagSeconds, 0)
})

t.test('the state says how far the counts are', async (t) => {
  t.match(await selectRollupState(db), { lagSeconds: 0, backfill: undefined, isLimited: false })
  await store(root, [make('a'), make('b')])
  await sql`
    UPDATE sluice.rollup_progress SET (until_epoch, until_xid, until_n) = (SELECT epoch, xid, n FROM sluice.records WHERE n = 1)
    WHERE part = 'backfill'`.execute(root)
  const before = await selectRollupState(db)
  t.match(before, { backfill: { records: 0 } })
  t.ok(before.lagSeconds > 3600, 'they were received in January')
  t.equal(await count('backfill', 1), 1)
  t.match(
    await selectRollupState(db),
    { backfill: { records: 1, estimate: undefined } },
    'nobody has analyzed the table',
  )
  await sql`ANALYZE sluice.records`.execute(root)
  t.match(await selectRollupState(db), { backfill: { records: 1, estimate: 2 } })
  await countAll()
  t.match(await selectRollupState(db), { lagSeconds: 0, backfill: undefined })
})

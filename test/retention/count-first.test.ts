import { sql } from 'kysely'
import t from 'tap'
import { makeOld } from '../../scripts/bench/stats/old-records.ts'
import { countRecords } from '../../src/data/rollups.ts'
import { connect as connectAs } from '../../src/postgres/connect.ts'
import { retain } from '../../src/retention/apply-policies.ts'
import { parsePolicies } from '../../src/retention/policies.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { until } from '../helpers/until.ts'

const { maintenanceUrl, apiUrl, superUrl } = await createDatabase(t)
const [api, root] = [connect(apiUrl), connect(superUrl, 2)]
const maintenance = connectAs({
  url: maintenanceUrl,
  name: 'maintenance',
  connections: 1,
  statementTimeoutMs: 60_000,
  onError: () => {},
})
t.teardown(() => Promise.all([maintenance.destroy(), api.destroy(), root.destroy()]))

const counting = { part: 'live', limit: 1000, maxSeries: 1000 } as const

let ids = 0
async function store(count: number): Promise<void> {
  const first = ids + 1
  ids += count
  await sql`
    INSERT INTO sluice.records (epoch, n, source, id, type, data)
    SELECT (SELECT max(epoch) FROM sluice.epochs), n, 's', n::text, 't', '1' FROM generate_series(${first}::integer, ${ids}::integer) AS n`.execute(
    root,
  )
}

/** How many records are counted, and how many there are. */
async function totals() {
  const { rows } = await sql<{ counted: number; stored: number }>`
    SELECT (SELECT coalesce(sum(records), 0) FROM sluice.rollups JOIN sluice.series USING (series)
            WHERE source = '' AND type = '' AND seconds = 86400)::integer AS counted,
           (SELECT count(*) FROM sluice.records)::integer AS stored`.execute(root)
  return rows[0]
}

const deleteAll = (maxSeries: number, dryRun = false) =>
  retain(maintenance, parsePolicies('[{ "source": "s", "maxCount": 0 }]', 'policies.json'), {
    dryRun,
    stop: new AbortController().signal,
    maxSeries,
    onBatch: () => {},
  })

t.test('retention counts the records before it deletes them', async (t) => {
  await store(3000)
  await countRecords(api, counting)
  t.equal(await deleteAll(1000, true), true)
  t.same(await totals(), { counted: 1000, stored: 3000 }, 'a dry run changes nothing')
  t.equal(await deleteAll(1000), true)
  t.same(await totals(), { counted: 3000, stored: 0 })
})

t.test('also the records from before the rollups', async (t) => {
  await store(1500)
  await makeOld(root)
  await store(10)
  t.equal(await deleteAll(1000), true)
  t.same(await totals(), { counted: 4510, stored: 0 })
})

t.test('it waits for the instance that counts', async (t) => {
  await store(1)
  const lock = await root.startTransaction().execute()
  await sql`LOCK TABLE sluice.rollups IN EXCLUSIVE MODE`.execute(lock)
  const counted = countRecords(api, counting)
  await until('the API to count', async () => {
    const { rows } =
      await sql`SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = 7501320`.execute(root)
    return rows.length > 0
  })
  const deleted = deleteAll(1000)
  // Each try changes the state of its session several times. After this many, it would have deleted the record if it did not wait.
  const changes = new Set<string>()
  await until('retention to try again and again', async () => {
    const { rows } = await sql<{ at: string }>`
      SELECT state_change::text AS at FROM pg_stat_activity WHERE usename = 'sluice_maintenance'`.execute(root)
    for (const { at } of rows) changes.add(at)
    return changes.size > 12
  })
  t.match(await totals(), { counted: 4510, stored: 1 })
  await lock.rollback().execute()
  t.equal(await counted, 1)
  t.equal(await deleted, true)
  t.same(await totals(), { counted: 4511, stored: 0 })
})

t.test('without rollups, nothing is counted', async (t) => {
  await store(5)
  t.equal(await deleteAll(0), true)
  t.same(await totals(), { counted: 4511, stored: 0 })
})

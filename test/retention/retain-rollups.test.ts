import { sql } from 'kysely'
import t from 'tap'
import { maintain, start } from '../helpers/maintain.ts'
import { addRecords, ids } from '../helpers/retention.ts'

const DAY = 86_400
const { database, owner } = await start(t)

/** Two series with a rollup of each length for each of the last 40 days: 40 buckets of each length per series. */
async function addRollups() {
  await sql`TRUNCATE sluice.rollups`.execute(owner)
  await sql`INSERT INTO sluice.series (source, type) VALUES ('', 'order') ON CONFLICT DO NOTHING`.execute(owner)
  await sql`
    INSERT INTO sluice.rollups (series, seconds, start, records)
    SELECT series, seconds, date_trunc('day', now(), 'UTC') - make_interval(days => day), 1
    FROM sluice.series, generate_series(1, 40) AS day, (VALUES (60), (3600), (86400)) AS length (seconds)
    WHERE source = ''`.execute(owner)
}

/** How many rollups there are of each length, and how old the oldest one is, in days. */
async function left() {
  const { rows } = await sql<{ seconds: number; count: number; days: number }>`
    SELECT seconds, count(*)::integer AS count, max(extract(day FROM now() - start))::integer AS days
    FROM sluice.rollups GROUP BY seconds ORDER BY seconds`.execute(owner)
  return rows.map(({ seconds, count, days }) => [seconds, count, days])
}

const ALL = [
  [60, 80, 40],
  [3600, 80, 40],
  [86_400, 80, 40],
]

t.test('old rollups of minutes are deleted, of all series, and no records and no longer rollups', async (t) => {
  await addRollups()
  await addRecords(owner, [{ id: 'kept', age: 1000 * DAY }])
  const { code, logs, stderr } = await maintain(t, database, '[{ "rollups": "minute", "maxAge": "30d" }]')
  t.equal(code, 0, stderr)
  t.same(await left(), [[60, 58, 29], ...ALL.slice(1)])
  t.same(await ids(owner), ['kept'])
  t.match(logs, [
    { msg: 'deleted', policy: 0, rollups: 'minute', maxAge: '30d', records: 0, deletedRollups: 22 },
    { msg: 'deleted in total', records: 0 },
  ])
})

t.test('old rollups of hours are deleted with those of minutes', async (t) => {
  await addRollups()
  const { code } = await maintain(t, database, '[{ "rollups": "hour", "maxAge": "30d" }]')
  t.equal(code, 0)
  t.same(await left(), [[60, 58, 29], [3600, 58, 29], ...ALL.slice(2)])
})

t.test('--dry-run says how many would be deleted, and deletes none', async (t) => {
  await addRollups()
  const { code, logs } = await maintain(t, database, '[{ "rollups": "hour", "maxAge": "30d" }]', ['--dry-run'])
  t.equal(code, 0)
  t.match(logs[0], { msg: 'would be deleted', deletedRollups: 44 })
  t.same(await left(), ALL)
})

t.test('other policies of the same file delete records', async (t) => {
  await addRollups()
  const policies = '[{ "rollups": "minute", "maxAge": "30d" }, { "maxAge": "30d" }]'
  const { code, logs } = await maintain(t, database, policies)
  t.equal(code, 0)
  t.match(logs, [
    { policy: 0, deletedRollups: 22 },
    { policy: 1, records: 1 },
  ])
  t.same(await ids(owner), [])
})

import { sql } from 'kysely'
import t from 'tap'
import { makeOld } from '../../scripts/bench/stats/old-records.ts'
import { createApp, type TestApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { scrape } from '../helpers/scrape.ts'
import { until } from '../helpers/until.ts'

const FAILURE = 'the rollups could not be updated: statistics lag behind until it works again'

const metric = async ({ app }: TestApp, name: string) => (await scrape(app)).value(`sluice_rollup_${name}`)

async function totals({ get }: Pick<TestApp, 'get'>) {
  const { buckets } = (await get('/v1/stats?bucket=day')).json
  const sum = (of: string) =>
    buckets.reduce((total: number, bucket: Record<string, number>) => total + (bucket[of] ?? 0), 0)
  return [sum('records'), sum('duplicates'), sum('rejected')]
}

const untilTotals = (server: Pick<TestApp, 'get'>, expected: number[]) =>
  until(`the totals ${expected}`, async () => `${await totals(server)}` === `${expected}`)

const record = (id: number) => ({ source: 's', type: 't', id: `${id}` })

t.test('several instances count each record once, and each what it has not stored', async (t) => {
  const first = await createApp(t)
  const second = await createApp(t, {}, first.database)
  await Promise.all([first.app.ready(), second.app.ready()])
  for (let id = 0; id < 20; id++) await (id % 2 === 0 ? first : second).post(record(id))
  for (const server of [first, second]) await server.post([record(0), { source: 's' }])
  await untilTotals(first, [20, 2, 2])
  await until('both to say so', async () =>
    (await Promise.all([first, second].map((server) => metric(server, 'lag_seconds')))).every((lag) => lag === 0),
  )
})

t.test('a server that closes adds what it has counted', async (t) => {
  const server = await createApp(t)
  await server.app.ready()
  await until('the first round', async () => (await metric(server, 'lag_seconds')) !== undefined)
  await server.post([record(1), record(1), { source: 's' }])
  await server.app.close()
  await untilTotals(await createApp(t, {}, server.database), [1, 1, 1])
})

t.test('an instance that closes while another one counts adds what it has not stored nevertheless', async (t) => {
  const server = await createApp(t)
  const root = connect(server.database.superUrl)
  t.teardown(() => root.destroy())
  await server.app.ready()
  await server.post(record(1))
  await untilTotals(server, [1, 0, 0])
  const counting = await root.startTransaction().execute()
  await sql`SELECT pg_advisory_xact_lock(7501320)`.execute(counting)
  await server.post([record(1), { source: 's' }])
  // While it drains, it is not ready.
  server.app.drain()
  await server.app.close()
  await counting.commit().execute()
  await untilTotals(await createApp(t, {}, server.database), [1, 1, 1])
})

t.test('whatever clients send in place of a type, everything else is counted', async (t) => {
  const server = await createApp(t)
  await server.app.ready()
  await server.post([
    record(1),
    { source: 's', type: 'a\u0000b' },
    { source: 'x\u0000', type: 't' },
    { source: 's', type: '' },
  ])
  await server.post([record(1), { source: 's', type: 5 }])
  await untilTotals(server, [1, 1, 4])
  t.equal(server.logs.filter(({ msg }) => msg === FAILURE).length, 0)
})

t.test('a key cannot raise the counts of a source that it may not use', async (t) => {
  const server = await createApp(t)
  await server.app.ready()
  await server.post(record(1))
  const { token } = await server.makeKey({ scopes: ['ingest'], sourcePrefixes: ['other'] })
  const as = { authorization: `Bearer ${token}` }
  await server.post([record(2), { source: 's', type: 't', time: 'x' }, { source: 'other', type: 't' }], as)
  await server.post(`${JSON.stringify(record(3))}\n{"source":"s","type":"t","time":"x"}\n`, {
    ...as,
    'content-type': 'application/x-ndjson',
  })
  await untilTotals(server, [2, 0, 4])
  const { buckets } = (await server.get('/v1/stats?bucket=day&source=s')).json
  t.match(buckets, [{ records: 1, rejected: 0 }])
})

t.test('duplicates are counted by source and type, in batches and in lines', async (t) => {
  const server = await createApp(t)
  await server.app.ready()
  const records = [record(1), { ...record(2), source: 's/2' }]
  await server.post(records)
  await server.post(records)
  const lines = records.map((one) => `${JSON.stringify(one)}\n`).join('')
  await server.post(lines, { 'content-type': 'application/x-ndjson' })
  await untilTotals(server, [2, 4, 0])
  const { buckets } = (await server.get('/v1/stats?bucket=day&by=source')).json
  t.match(buckets, [
    { source: 's', records: 1, duplicates: 2 },
    { source: 's/2', records: 1, duplicates: 2 },
  ])
})

t.test('conflicts are counted by source and type, also if nothing of the request is stored', async (t) => {
  const server = await createApp(t)
  await server.app.ready()
  await server.post([record(1), record(2)])
  const changed = (id: number) => ({ ...record(id), data: 'changed' })
  t.equal((await server.post(changed(1))).status, 409)
  t.equal((await server.post([changed(1), changed(2)])).status, 409)
  t.equal((await server.post([changed(1), record(3)], { prefer: 'handling=strict' })).status, 409)
  t.equal((await server.post([changed(1), record(1)])).status, 207)
  await server.post(`${JSON.stringify(changed(2))}\n`, { 'content-type': 'application/x-ndjson' })
  await untilTotals(server, [2, 1, 6])
  const { buckets } = (await server.get('/v1/stats?bucket=day&by=source&type=t')).json
  t.match(buckets, [{ source: 's', records: 2, duplicates: 1, rejected: 6 }])
})

t.test('while the rollups cannot be updated, the log says it once, the lag grows, and nothing is lost', async (t) => {
  const server = await createApp(t)
  const root = connect(server.database.superUrl)
  t.teardown(() => root.destroy())
  await server.app.ready()
  await untilTotals(server, [0, 0, 0])
  await sql`REVOKE UPDATE, INSERT ON sluice.rollups FROM sluice_api`.execute(root)
  t.equal((await server.post([record(1), record(1), { source: 's' }])).status, 207, 'ingestion does not depend on it')
  const lines = (text: string) => server.logs.filter(({ msg }) => msg === text)
  await until('the line', () => lines(FAILURE).length > 0)
  t.match(lines(FAILURE), [{ level: 'warn', err: { code: '42501' } }])
  const before = (await metric(server, 'lag_seconds')) as number
  await until('the lag to grow', async () => ((await metric(server, 'lag_seconds')) as number) > before + 0.1)
  t.same(await totals(server), [0, 0, 0])
  await sql`GRANT UPDATE, INSERT ON sluice.rollups TO sluice_api`.execute(root)
  await untilTotals(server, [1, 1, 1])
  await until('the other line', () => lines('the rollups are updated again').length === 1)
  t.equal(lines(FAILURE).length, 1)
})

t.test('records from before the rollups are counted in the background', async (t) => {
  const database = await createDatabase(t)
  const root = connect(database.superUrl)
  t.teardown(() => root.destroy())
  await sql`
    INSERT INTO sluice.records (epoch, n, source, id, type, received_at, data)
    SELECT (SELECT max(epoch) FROM sluice.epochs), n, 's', n::text, 't', now(), '1' FROM generate_series(1, 50000) AS n`.execute(
    root,
  )
  await makeOld(root)
  await sql`ANALYZE sluice.records`.execute(root)
  const server = await createApp(t, {}, database)
  await server.app.ready()
  await server.post(record(0))
  const seen = { stats: [] as number[], status: [] as number[] }
  await until('the backfill', async () => {
    const status = (await server.get('/v1/status')).json.statistics.backfill
    if (status !== null) seen.status.push(status)
    const stats = (await server.get('/v1/stats?bucket=day')).json.backfill
    if (stats !== null) seen.stats.push(stats)
    return stats === null
  })
  for (const [where, shares] of Object.entries(seen)) {
    t.ok(
      shares.some((share) => share > 0 && share < 1),
      `${where} shows a part of it`,
    )
    t.ok(
      shares.every((share) => share >= 0 && share <= 1),
      [...new Set(shares)].join(' '),
    )
  }
  await untilTotals(server, [50_001, 0, 0])
  const done = 'the records from before the rollups are counted'
  const line = await until('the line', () => server.logs.find(({ msg }) => msg === done))
  t.match(line, { level: 'info' })
})

t.test('with ROLLUP_MAX_SERIES=0 nothing is counted', async (t) => {
  const server = await createApp(t, { ROLLUP_MAX_SERIES: '0' })
  await server.app.ready()
  await server.post(record(1))
  t.equal(await metric(server, 'lag_seconds'), undefined)
  t.same(await totals(server), [0, 0, 0])
})

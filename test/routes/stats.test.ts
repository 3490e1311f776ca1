import { sql } from 'kysely'
import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { isProblem } from '../helpers/problem.ts'
import { until } from '../helpers/until.ts'

const server = await createApp(t)
const { database, get, makeKey, post } = server
const root = connect(database.superUrl)
t.teardown(() => root.destroy())

/** Waits until everything that was stored is counted. */
const counted = (records: number) =>
  until('the counts', async () => {
    const { json } = await get('/v1/stats?bucket=day')
    return json.lagSeconds === 0 && total(json.buckets, 'records') >= records
  })

type Bucket = Record<'records' | 'bytes' | 'duplicates' | 'rejected', number> & { type?: string; source?: string }
const total = (buckets: Bucket[], of: 'records' | 'bytes' | 'duplicates' | 'rejected') =>
  buckets.reduce((sum, bucket) => sum + bucket[of], 0)

const records = [
  ...[1, 2, 3].map((id) => ({ source: 'shop', type: 'order', id: `${id}`, data: { total: 10 } })),
  ...[4, 5].map((id) => ({ source: 'shop/eu', type: 'order', id: `${id}` })),
  { source: 'shopping', type: 'click', id: '6' },
]

t.test('records, duplicates and rejected records are counted by type and source', async (t) => {
  t.equal((await post(records)).status, 201)
  t.equal((await post(records.slice(0, 2))).status, 200)
  t.equal((await post([records[0], { source: 'shop', id: '7' }, { ...records[0], data: 'other' }])).status, 207)
  await counted(6)
  await until('the rejected records', async () => total((await get('/v1/stats')).json.buckets, 'rejected') === 2)
  for (const bucket of ['minute', 'hour', 'day']) {
    const { status, headers, json } = await get(`/v1/stats?bucket=${bucket}`)
    t.match({ status, headers }, { status: 200, headers: { 'cache-control': 'no-store' } })
    t.match(json, { bucket, lagSeconds: 0, backfill: null, isLimited: false })
    t.same(
      (['records', 'duplicates', 'rejected'] as const).map((name) => total(json.buckets, name)),
      [6, 3, 2],
      bucket,
    )
    t.ok(total(json.buckets, 'bytes') > 0)
  }
  const byType = (await get('/v1/stats?bucket=day&by=type')).json.buckets
  t.match(byType, [
    { type: 'click', records: 1 },
    { type: 'order', records: 5, duplicates: 3, rejected: 1 },
    { type: null, records: 0, rejected: 1 },
  ])
  const bySource = (await get('/v1/stats?bucket=day&by=source')).json.buckets
  t.match(bySource, [
    { source: 'shop', records: 3 },
    { source: 'shop/eu', records: 2 },
    { source: 'shopping', records: 1 },
    { source: null, records: 0, rejected: 1 },
  ])
})

t.test('filters select types and sources, and a limit counts the others together', async (t) => {
  const numbers = async (query: string) =>
    (await get(`/v1/stats?bucket=day&${query}`)).json.buckets.map(({ type, source, records }: Bucket) => [
      type ?? source,
      records,
    ])
  t.same(await numbers('type=order'), [[undefined, 5]])
  t.same(await numbers('source=shop'), [[undefined, 3]])
  t.same(await numbers('sourcePrefix=shop/'), [[undefined, 2]])
  t.same(await numbers('sourcePrefix=shop&type=click'), [[undefined, 1]])
  t.same(await numbers('sourcePrefix=shop&by=type'), [
    ['click', 1],
    ['order', 5],
  ])
  t.same(await numbers('type=click&by=source'), [['shopping', 1]])
  t.same(await numbers('by=source&limit=1'), [
    ['shop', 3],
    [null, 3],
  ])
  t.same(await numbers('source=none'), [])
})

t.test('a key with prefixes sees the counts of its sources, and of no others', async (t) => {
  const { token } = await makeKey({ scopes: ['read'], sourcePrefixes: ['shop'] })
  const numbers = async (query: string) =>
    (await get(`/v1/stats?bucket=day&${query}`, { authorization: `Bearer ${token}` })).json.buckets.map(
      ({ type, source, records }: Bucket) => [type ?? source, records],
    )
  t.same(await numbers(''), [[undefined, 5]])
  t.same(await numbers('by=type'), [['order', 5]])
  t.same(await numbers('by=source&limit=1'), [
    ['shop', 3],
    [null, 2],
  ])
  t.same(await numbers('source=shopping'), [])
  t.same(await numbers('type=click'), [])
  const { token: ingest } = await makeKey({ scopes: ['ingest'] })
  isProblem(t, await get('/v1/stats', { authorization: `Bearer ${ingest}` }), 'forbidden')
})

t.test('the times of the query choose the buckets', async (t) => {
  await sql`
    INSERT INTO sluice.rollups (series, seconds, start, records)
    SELECT series, 3600, start, 1 FROM sluice.series,
           generate_series('2024-01-01 00:00Z'::timestamptz, '2024-12-31 23:00Z', '1 hour') AS start
    WHERE type = '' OR source = 'shop'`.execute(root)
  const read = async (query: string) => (await get(`/v1/stats?${query}`)).json
  const year = await read('from=2024-01-01T00:00:00Z&until=2025-01-01T00:00:00Z')
  t.equal(year.buckets.length, 366 * 24)
  const part = await read('from=2024-03-01T05:30:00%2B02:00&until=2024-03-01T05:00:00Z')
  t.match(part, { from: '2024-03-01T03:00:00.000Z', until: '2024-03-01T05:00:00.000Z' })
  t.same(
    part.buckets.map(({ start }: { start: string }) => start),
    ['2024-03-01T03:00:00Z', '2024-03-01T04:00:00Z'],
  )
  for (const [query, parameter, detail] of [
    ['bucket=minute&from=2024-01-01T00:00:00Z', 'bucket', 'must be longer'],
    ['from=2024-01-02T00:00:00Z&until=2024-01-01T00:00:00Z', 'from', 'before until'],
    ['from=yesterday', 'from', 'RFC 3339'],
    ['until=0001-01-01T00:00:00Z', 'from', 'before until'],
    ['bucket=week', 'bucket', 'one of'],
    ['by=id', 'by', 'one of'],
    ['limit=0', 'limit', 'limit must'],
    ['by=type&limit=30&from=2024-01-01T00:00:00Z&until=2025-01-01T00:00:00Z', 'limit', 'at most 1 for 8784'],
    ['source=%00', 'source', 'U+0000'],
    ['sourceprefix=x', 'sourceprefix', 'sourcePrefix'],
  ] as const) {
    const answer = await get(`/v1/stats?${query}`)
    isProblem(t, answer, 'invalid_query')
    t.match(answer.json.errors, [{ pointer: parameter }], query)
    t.match(answer.json.detail, detail)
  }
})

// It would keep all others from the statistics meanwhile.
t.test('a query that would take many seconds is refused', async (t) => {
  await sql`INSERT INTO sluice.series (source, type) SELECT 'many/' || n, '' FROM generate_series(1, 200) AS n`.execute(
    root,
  )
  const { token } = await makeKey({ scopes: ['read'], sourcePrefixes: ['many'] })
  const many = { authorization: `Bearer ${token}` }
  const year = 'from=2024-01-01T00:00:00Z&until=2025-01-01T00:00:00Z'
  const refused = [
    await get(`/v1/stats?${year}&sourcePrefix=many`),
    await get(`/v1/stats?${year}`, many),
    await get(`/v1/stats?${year}&by=source&limit=1`, many),
  ]
  for (const answer of refused) {
    isProblem(t, answer, 'invalid_query')
    t.match(answer.json, { errors: [{ pointer: 'bucket' }], detail: /: up to \d{7} rollups .* may add up 1000000\./ })
  }
  const accepted = [
    await get(`/v1/stats?${year}`),
    await get(`/v1/stats?${year}&by=source&limit=1`),
    await get(`/v1/stats?${year}&source=many/1`, many),
    await get(`/v1/stats?${year}&bucket=day`, many),
  ]
  for (const { status } of accepted) t.equal(status, 200)
  await sql`DELETE FROM sluice.series WHERE source ^@ 'many/'`.execute(root)
})

t.test('deleting records does not change the counts', async (t) => {
  const before = (await get('/v1/stats?bucket=day')).json.buckets
  await sql`DELETE FROM sluice.records`.execute(root)
  await post({ source: 'shop', type: 'order', id: 'after' })
  await counted(7)
  t.equal(total((await get('/v1/stats?bucket=day')).json.buckets, 'records'), total(before, 'records') + 1)
})

t.test('types and sources beyond ROLLUP_MAX_SERIES are counted under null, and the response says so', async (t) => {
  const limited = await createApp(t, { ROLLUP_MAX_SERIES: '5' })
  const read = async (by: 'type' | 'source') => {
    const { isLimited, buckets } = (await limited.get(`/v1/stats?bucket=day&by=${by}`)).json
    return { isLimited, counts: buckets.map((bucket: Bucket) => [bucket[by], bucket.records]) }
  }
  const untilCounted = (records: number) =>
    until(`${records} counts`, async () => {
      const { json } = await limited.get('/v1/stats?bucket=day')
      return total(json.buckets, 'records') === records
    })
  await limited.post({ source: 'shop', type: 'order', id: '1' })
  await untilCounted(1)
  t.same(await read('source'), { isLimited: false, counts: [['shop', 1]] })
  const others = ['a', 'b', 'c', 'd', 'e', 'f'].map((name) => ({ source: `shop/${name}`, type: name, id: '1' }))
  await limited.post([...others, { source: 'shop', type: 'order', id: '2' }])
  await untilCounted(8)
  t.same(await read('source'), {
    isLimited: true,
    counts: [
      ['shop', 2],
      [null, 6],
    ],
  })
  // One place was left. Types come first.
  t.same(await read('type'), {
    isLimited: true,
    counts: [
      ['a', 1],
      ['order', 2],
      [null, 5],
    ],
  })
})

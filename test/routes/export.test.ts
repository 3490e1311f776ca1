import type { IncomingMessage } from 'node:http'
import { createGunzip } from 'node:zlib'
import { parse } from 'csv-parse/sync'
import { sql } from 'kysely'
import pg from 'pg'
import t, { type Test } from 'tap'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { openClient } from '../helpers/http.ts'
import { isProblem } from '../helpers/problem.ts'
import { listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

const NDJSON = { accept: 'application/x-ndjson' }
const CSV = { accept: 'text/csv' }
const server = await createApp(t)
const { post, get, makeKey } = server

/** Payloads that are hard to write as a CSV cell or as a JavaScript number. */
const HARD = [
  '{"text":"a,b\\"c\\"\\nd\\r\\n;e"}',
  '"caf\u00e9 \u{1f980} \\u2028"',
  '12345678901234567890',
  '0.1000000000000000055',
  '[]',
  'null',
  '""',
  '"=1+1"',
  '" leading"',
]
const record = (n: number) =>
  `{"source":"exp/${n % 7}","type":"t${n % 2}","id":"${n}","subject":"s, \\"${n}\\"","ext":${n},"flag":true,"data":${HARD[n % HARD.length]}}`

const TOTAL = 2500
await post(Array.from({ length: TOTAL }, (_, n) => record(n)).join('\n'), { 'content-type': 'application/x-ndjson' })
await post([
  { source: 'bytes', type: 't', id: 'b', data_base64: 'AAH/', datacontenttype: 'image/png' },
  { source: 'bytes', type: 't', id: 'none', time: '2026-01-31T12:00:00.123456Z', dataschema: 'https://example.com/s' },
])

const linesOf = (text: string): string[] => {
  t.ok(text === '' || text.endsWith('\n'), 'the last line ends with a newline')
  return text.split('\n').slice(0, -1)
}
/** Reads the whole list, page after page. An export must equal it. */
async function listed(query: string): Promise<object[]> {
  const records: object[] = []
  for (let path: string | null = `/v1/records?limit=1000&${query}`; path !== null; ) {
    const { json } = await get(path)
    records.push(...json.records)
    path = json.next === null ? null : `/v1/records?limit=1000&${query}&cursor=${json.next}`
  }
  return records
}

// — content —

t.test('an NDJSON export has the whole selection, one record per line, with filters and in both orders', async (t) => {
  for (const [query, count] of [
    ['', TOTAL + 2],
    ['order=asc', TOTAL + 2],
    ['sourcePrefix=exp/', TOTAL],
    ['sourcePrefix=exp/&order=asc&type=t1', TOTAL / 2],
    ['source=exp/3&data="=1%2B1"', undefined],
    ['source=nobody', 0],
    ['id=b', 1],
  ] as const) {
    const answer = await get(`/v1/records?${query}`, NDJSON)
    t.equal(answer.status, 200, query)
    t.equal(answer.headers['content-type'], 'application/x-ndjson; charset=utf-8')
    const records = linesOf(answer.text).map((line) => JSON.parse(line))
    t.same(records, await listed(query), `${query}: the same as the list`)
    if (count !== undefined) t.equal(records.length, count, query)
    t.equal(answer.headers['content-length'], undefined, 'the length is not known in advance')
  }
})

t.test('a CSV export has the whole selection, and parsing it returns the same records', async (t) => {
  for (const query of ['', 'order=asc&sourcePrefix=exp/', 'source=bytes', 'source=nobody']) {
    const answer = await get(`/v1/records?${query}`, CSV)
    t.equal(answer.status, 200)
    t.equal(answer.headers['content-type'], 'text/csv; charset=utf-8')
    const rows = parse(answer.text, { columns: true, record_delimiter: '\r\n' }) as Record<string, string>[]
    const found = rows.map(({ extensions, data, data_base64, ...cells }) => {
      const present = Object.fromEntries(Object.entries(cells).filter(([, cell]) => cell !== ''))
      return {
        specversion: '1.0',
        ...present,
        ...(extensions === '' ? {} : JSON.parse(extensions as string)),
        ...(data === '' ? {} : { data: JSON.parse(data as string) }),
        ...(data_base64 === '' ? {} : { data_base64 }),
      }
    })
    t.same(found, await listed(query), query)
    t.match(
      answer.text.split('\r\n')[0],
      'source,id,type,time,subject,dataschema,datacontenttype,extensions,data,data_base64,receivedAt,cursor',
    )
  }
  t.match((await get('/v1/records?id=2', CSV)).text, ',12345678901234567890,', 'every digit of a number')
})

t.test('limit and cursor bound an export', async (t) => {
  const all = linesOf((await get('/v1/records', NDJSON)).text)
  t.same(linesOf((await get('/v1/records?limit=3', NDJSON)).text), all.slice(0, 3))
  const { cursor } = JSON.parse(all[1499] as string)
  t.same(linesOf((await get(`/v1/records?cursor=${cursor}`, NDJSON)).text), all.slice(1500))
  const upwards = linesOf((await get(`/v1/records?order=asc&cursor=${cursor}`, NDJSON)).text)
  t.same(upwards, all.slice(0, 1499).reverse())
})

t.test('an export can be posted unchanged: all duplicates on the same server, all new on another one', async (t) => {
  for (const query of ['', 'order=asc']) {
    const { text } = await get(`/v1/records?${query}`, NDJSON)
    const answer = await post(text, { 'content-type': 'application/x-ndjson' })
    t.equal(answer.status, 200)
    t.same(answer.json.counts, { created: 0, duplicate: TOTAL + 2, conflict: 0, rejected: 0 })
  }
  const other = await createApp(t)
  const { text } = await get('/v1/records?order=asc', NDJSON)
  const moved = await other.post(text, { 'content-type': 'application/x-ndjson' })
  t.match(moved.json.counts, { created: TOTAL + 2 }, 'all records are new')
  const withoutServer = (line: string) => line.slice(0, line.lastIndexOf(',"receivedAt"'))
  const copy = linesOf((await other.get('/v1/records', NDJSON)).text).map(withoutServer)
  t.same(copy.sort(), linesOf(text).map(withoutServer).sort(), 'the copy is equal to the last digit')
})

t.test('a key with source prefixes exports only these sources', async (t) => {
  const authorization = `Bearer ${(await makeKey({ sourcePrefixes: ['exp/3', 'bytes'] })).token}`
  const sources = linesOf((await get('/v1/records', { ...NDJSON, authorization })).text).map(
    (line) => JSON.parse(line).source,
  )
  t.same([...new Set(sources)].sort(), ['bytes', 'exp/3'])
})

t.test('an invalid request gets a problem instead of a stream', async (t) => {
  for (const accept of [NDJSON, CSV]) {
    isProblem(t, await get('/v1/records?cursor=x', accept), 'invalid_offset')
    isProblem(t, await get('/v1/records?timeFrom=x', accept), 'invalid_query')
    isProblem(
      t,
      await get('/v1/records', { ...accept, authorization: 'Bearer unknown-unknown-unknown' }),
      'unauthorized',
    )
    const writeOnly = (await makeKey({ scopes: ['ingest'] })).token
    isProblem(t, await get('/v1/records', { ...accept, authorization: `Bearer ${writeOnly}` }), 'forbidden')
  }
  isProblem(t, await get('/v1/records', { accept: 'text/html' }), 'not_acceptable')
})

t.test('Accept selects the format, and JSON is the default', async (t) => {
  for (const [accept, type] of [
    ['*/*', 'application/json'],
    ['application/*', 'application/json'],
    ['text/*', 'text/csv'],
    ['application/json;q=0.5, application/x-ndjson', 'application/x-ndjson'],
    ['text/html, application/x-ndjson;q=0.1', 'application/x-ndjson'],
    ['application/json; charset=utf-8', 'application/json'],
    ['Application/JSON;q=0.1;charset=utf-8, TEXT/CSV; Header = "a, b;c\\"" ;Q=0.2', 'text/csv'],
    ['application/x-ndjson; charset="utf-8", application/json;q=0.9', 'application/x-ndjson'],
    ['', 'application/json'],
    // Without any media type, the header is ignored.
    [';,;', 'application/json'],
    ['a;b="c', 'application/json'],
  ] as const) {
    t.match((await get('/v1/records?limit=1', { accept })).headers['content-type'], type, accept)
  }
  t.match((await get('/v1/records?limit=1')).headers['content-type'], 'application/json')
  for (const accept of ['text/html', 'application/json;q=0'])
    isProblem(t, await get('/v1/records?limit=1', { accept }), 'not_acceptable', { name: accept })
})

// — reading —

// More than the buffers on the way hold, compressed or not.
const LARGE = 8000
// The hold window must not end before the test ends the outage.
const large = await createApp(t, { OUTAGE_HOLD_SECONDS: '3600' })
const filler = () => Array.from({ length: 270 }, () => Math.random().toString(36).slice(2)).join('')
const body = Array.from({ length: LARGE }, (_, n) => `{"source":"large","type":"t","id":"${n}","data":"${filler()}"}`)
await large.post(body.join('\n'), { 'content-type': 'application/x-ndjson' })
const db = connect(large.database.superUrl)
t.teardown(() => db.destroy())

/** Starts an export whose reader stops after the head of the response. */
async function openStalled(t: Test, headers: Record<string, string>, query = '') {
  const client = openClient(t, await listen(large.app), large.key)
  const answer = await client.read(`/v1/records?source=large${query}`, headers)
  t.equal(answer.statusCode, 200)
  return { answer, client }
}

const readAll = async (answer: IncomingMessage) => Buffer.concat(await answer.toArray()).toString()

t.test('a stalled reader holds no database connection, and gets the rest when it reads again', async (t) => {
  const { answer } = await openStalled(t, NDJSON)
  t.ok(await untilIdle(), 'no read is running')
  // Others can read meanwhile, more often than there are connections.
  for (let n = 0; n < 10; n++) t.equal((await large.get('/v1/records?limit=1')).status, 200)
  // The export also survives the loss of all connections for lists.
  const { rows } = await sql`
      SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = ${large.database.name} AND application_name = 'sluice-list'`.execute(db)
  t.ok(rows.length > 0)
  const broken = () => large.logs.filter(({ msg }) => msg === 'a connection to the database broke').length
  await until('the pool to notice', () => broken() >= rows.length)
  t.equal(linesOf(await readAll(answer)).length, LARGE)
})

/** Waits until no connection for lists is in use. */
function untilIdle(): Promise<true> {
  const count = async () => {
    const { rows } = await sql<{ n: number }>`
      SELECT count(*)::integer AS n FROM pg_stat_activity
      WHERE datname = ${large.database.name} AND application_name = 'sluice-list'
        AND (state <> 'idle' OR backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)`.execute(db)
    return rows[0]?.n
  }
  return until('the reads to end', async () => {
    // Between two pages, a connection is idle only for a moment.
    for (let quiet = 0; quiet < 100; quiet++) if ((await count()) !== 0) return false
    return true
  })
}

t.test('an export ends without the records that arrive during it, in either order', async (t) => {
  for (const [order, before] of [
    ['asc', LARGE],
    ['desc', LARGE + 50],
  ] as const) {
    const { answer } = await openStalled(t, NDJSON, `&order=${order}`)
    const late = Array.from({ length: 50 }, (_, n) => ({ source: 'large', type: 't', id: `${order} ${n}` }))
    t.equal((await large.post(late)).status, 201)
    const records = linesOf(await readAll(answer)).map((line) => JSON.parse(line))
    t.equal(records.length, before, order)
    t.equal(new Set(records.map(({ id }) => id)).size, before, `${order}: each once`)
    t.notOk(
      records.some(({ id }) => id.startsWith(`${order} `)),
      `${order}: no late record`,
    )
  }
})

// The outage broke off the export, although each of its pages is a separate read.
t.test('an export waits during an outage, and continues where it stopped', async (t) => {
  const { name, superUrl } = large.database
  const elsewhere = connect(new URL('/postgres', superUrl).href)
  t.teardown(() => elsewhere.destroy())
  const { rows } = await sql<{ n: number }>`SELECT count(*)::integer AS n FROM sluice.records`.execute(db)
  const tries = countQueries(t)
  const { answer } = await openStalled(t, NDJSON)
  await untilIdle()

  await sql`ALTER DATABASE ${sql.id(name)} ALLOW_CONNECTIONS false`.execute(elsewhere)
  await sql`SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = ${name}`.execute(elsewhere)
  const before = tries()
  const all = readAll(answer)
  await until('the export to try again', () => tries() > before + 5)
  await sql`ALTER DATABASE ${sql.id(name)} ALLOW_CONNECTIONS true`.execute(elsewhere)

  const ids = linesOf(await all).map((line) => JSON.parse(line).id)
  t.equal(ids.length, rows[0]?.n)
  t.equal(new Set(ids).size, ids.length, 'each once')
})

/** Counts the queries of lists and exports: each one requests a connection from their pool. */
function countQueries(t: Test): () => number {
  const requests = t.capture(pg.Pool.prototype, 'connect', pg.Pool.prototype.connect)
  let queries = 0
  return () => {
    queries += requests().filter(
      ({ receiver }) => (receiver as pg.Pool).options.application_name === 'sluice-list',
    ).length
    return queries
  }
}

t.test('an export that breaks off does not look complete', async (t) => {
  for (const [name, headers] of [
    ['NDJSON', NDJSON],
    ['CSV', CSV],
    ['NDJSON, gzip', { ...NDJSON, 'accept-encoding': 'gzip' }],
    ['CSV, zstd', { ...CSV, 'accept-encoding': 'zstd' }],
  ] as const) {
    const { answer, client } = await openStalled(t, headers)
    await untilIdle()
    await sql`ALTER TABLE sluice.records RENAME TO away`.execute(db)
    await t.rejects(readAll(answer), { code: 'ECONNRESET' }, `${name}: the reader gets an error`)
    t.notOk(answer.complete, `${name}: the response is not complete`)
    await until(`${name}: the reason in the log`, () =>
      large.logs.some((line) => JSON.stringify(line).includes('42P01')),
    )
    await sql`ALTER TABLE sluice.away RENAME TO records`.execute(db)
    t.equal((await client.send('GET', '/v1/records?limit=1')).status, 200, `${name}: the server still works`)
  }
})

t.test('a compressed export that breaks off cannot be inflated to its end', async (t) => {
  const { answer } = await openStalled(t, { ...NDJSON, 'accept-encoding': 'gzip' })
  await untilIdle()
  await sql`ALTER TABLE sluice.records RENAME TO away`.execute(db)
  const inflated = answer.on('error', () => inflated.end()).pipe(createGunzip())
  await t.rejects(inflated.toArray(), { code: 'Z_BUF_ERROR' })
  await sql`ALTER TABLE sluice.away RENAME TO records`.execute(db)
})

t.test('an export ends when its reader disconnects', async (t) => {
  const { answer, client } = await openStalled(t, NDJSON)
  answer.on('error', () => {})
  answer.destroy()
  t.ok(await untilIdle())
  t.equal((await client.send('GET', '/v1/records?limit=1')).status, 200)
})

// It read the whole selection, and nothing could stop it.
t.test('HEAD of an export reads only the first page', async (t) => {
  const queries = countQueries(t)
  const client = openClient(t, await listen(large.app), large.key)
  for (const headers of [NDJSON, CSV, { ...NDJSON, 'accept-encoding': 'gzip' }]) {
    const before = queries()
    const head = await client.send('HEAD', '/v1/records?source=large', headers)
    t.equal(head.status, 200)
    t.match(head.headers['content-type'], headers.accept)
    t.equal(head.bytes.length, 0)
    t.ok(await untilIdle())
    t.equal(queries() - before, 1)
  }
  isProblem(t, await client.send('GET', '/v1/records?source=', NDJSON), 'invalid_query')
})

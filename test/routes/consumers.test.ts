import { sql } from 'kysely'
import t from 'tap'
import { START_OFFSET } from '../../src/feed/read-page.ts'
import { connect } from '../helpers/connect.ts'
import { CREATE, type Headers, match, openConsumers } from '../helpers/consumers-api.ts'
import { isProblem } from '../helpers/problem.ts'
import { until } from '../helpers/until.ts'

const server = await openConsumers(t)
const { app, database, makeKey, call, put, store } = server
const root = connect(database.superUrl)
t.teardown(() => root.destroy())

const first = await store('1')
const second = await store('2')

t.test('a consumer is created at an offset, is moved with its ETag, and is deleted', async (t) => {
  const created = await put('billing', first)
  t.equal(created.status, 201)
  t.equal(created.headers.location, '/v1/consumers/billing')
  t.equal(created.headers['cache-control'], 'no-store')
  const { etag } = created.headers
  t.match(etag, /^"[\da-f-]{36}"$/)
  t.match(created.json, { name: 'billing', offset: first, overtakenAt: null })
  t.match(created.json.createdAt, /^\d{4}-\d\d-\d\dT.*Z$/)
  const { lag, ...stored } = (await call('GET', '/billing')).json
  t.same(stored, created.json, 'the response has the stored consumer')
  t.match(lag, { records: 1, isExact: true })
  t.ok(lag.seconds > 0)

  const moved = await put('billing', second, match(etag))
  t.equal(moved.status, 200)
  t.match(moved.json, { offset: second })
  t.not(moved.headers.etag, etag)
  t.ok(moved.json.updatedAt > moved.json.createdAt)

  const read = await call('GET', '/billing')
  t.equal(read.status, 200)
  t.equal(read.headers.etag, moved.headers.etag)
  t.equal(read.headers['cache-control'], 'no-store')
  t.same(read.json, { ...moved.json, lag: { records: 0, isExact: true, seconds: 0 } })
  const inspected = await call('HEAD', '/billing')
  t.same([inspected.status, inspected.headers.etag, inspected.text], [200, moved.headers.etag, ''])

  const back = await put('billing', first, match(read.headers.etag))
  t.match(back.json, { offset: first }, 'it may move back')

  t.equal((await call('DELETE', '/billing')).status, 204)
  isProblem(t, await call('GET', '/billing'), 'not_found')
  const gone = await call('DELETE', '/billing')
  isProblem(t, gone, 'not_found')
  t.match(
    gone.json.detail,
    /There is no consumer billing\. PUT \/v1\/consumers\/billing .* GET \/v1\/consumers lists all/,
  )
  const isChange = ({ consumer, method }: Record<string, unknown>) =>
    consumer === 'billing' && /PUT|DELETE/.test(String(method))
  t.match(
    server.logs.filter(isChange),
    [
      { method: 'PUT', status: 201, key: String },
      { method: 'PUT', status: 200, key: String },
      { method: 'PUT', status: 200, key: String },
      { method: 'DELETE', status: 204, key: String },
      { method: 'DELETE', status: 404, key: String },
    ],
    'the log says who changed it',
  )
})

t.test('-1 is the start, and now is the end', async (t) => {
  t.match((await put('start', '-1')).json, { offset: START_OFFSET })
  t.match((await put('end', 'now')).json, { offset: second })
  const page = await app.inject({
    url: `/v1/feed?offset=${START_OFFSET}`,
    headers: { authorization: `Bearer ${server.key}` },
  })
  t.equal(page.json().length, 2, 'the feed takes the offset of the start')
  for (const name of ['start', 'end']) await call('DELETE', `/${name}`)
})

t.test('the list has all consumers by name', async (t) => {
  for (const name of ['b', 'a.1', 'A', 'x'.repeat(128)]) t.equal((await put(name, '-1')).status, 201)
  const { status, json, headers } = await call('GET', '')
  t.equal(status, 200)
  t.equal(headers['cache-control'], 'no-store')
  const names = json.consumers.map(({ name }: { name: string }) => name)
  t.same(names, ['A', 'a.1', 'b', 'x'.repeat(128)])
  t.match(json.consumers[1], {
    ...(await call('GET', '/a.1')).json,
    lag: { records: 2, isExact: true, seconds: Number },
  })
  for (const name of names) await call('DELETE', `/${name}`)
  t.same((await call('GET', '')).json, { consumers: [] })
})

t.test('a PUT without a condition is 428 and says what to send', async (t) => {
  const { status, json } = await call('PUT', '/a', {}, { offset: '-1' })
  t.equal(status, 428)
  t.match(json, {
    code: 'precondition_required',
    detail: /If-None-Match: \* creates \/v1\/consumers\/a, and If-Match: "…"/,
  })
})

t.test('a condition that is not met is 412, says what is stored, and changes nothing', async (t) => {
  const { etag } = (await put('c', first)).headers
  const expected = new RegExp(`^The consumer c has the offset ${first} and the ETag ${etag}\\.`)
  const other = '"00000000-0000-4000-8000-000000000000"'
  for (const headers of [
    CREATE,
    match(other),
    match(`W/${etag}`),
    match(`${other}, W/${etag}`),
    match('"something-else"'),
    match(String(etag).toUpperCase()),
  ]) {
    const refused = await put('c', second, headers)
    isProblem(t, refused, 'precondition_failed', { name: JSON.stringify(headers) })
    t.match(refused.json.detail, expected)
  }
  for (const condition of [other, `W/${etag}`])
    isProblem(t, await call('DELETE', '/c', match(condition)), 'precondition_failed')
  const { json, headers } = await call('GET', '/c')
  t.same([json.offset, headers.etag], [first, etag])

  const missing = await put('none', first, match('*'))
  isProblem(t, missing, 'precondition_failed')
  t.match(missing.json.detail, /There is no consumer none\. If-None-Match: \* creates it\./)
  isProblem(t, await call('DELETE', '/none', match(etag)), 'not_found')
  t.equal((await call('DELETE', '/c', match(etag))).status, 204)
})

t.test('If-Match may be a list or *', async (t) => {
  const created = await put('list', first)
  const moved = await put('list', second, match(`W/"a,b", "c,d",,\t${created.headers.etag} , "e"`))
  t.equal(moved.status, 200)
  t.equal((await put('list', first, match('*'))).status, 200)
  t.equal((await call('DELETE', '/list', match('*'))).status, 204)
})

// A counter would begin again.
t.test('the ETag of a consumer that was deleted and created again is another one', async (t) => {
  const { etag } = (await put('again', first)).headers
  await call('DELETE', '/again')
  await put('again', first)
  isProblem(t, await put('again', second, match(etag)), 'precondition_failed')
  await call('DELETE', '/again')
})

t.test('of many clients that send the same ETag or create the same name, exactly one succeeds', async (t) => {
  const tokens = await Promise.all(Array.from({ length: 4 }, () => makeKey({ scopes: ['read'] })))
  const all = (headers: Headers) =>
    Promise.all(
      [...tokens, ...tokens].map(({ token }, n) =>
        call('PUT', '/race', headers, { offset: n % 2 === 0 ? first : second }, token),
      ),
    )
  const statusesOf = (answers: { status: number }[]) => answers.map(({ status }) => status).sort()
  const created = await all(CREATE)
  t.same(statusesOf(created), [201, ...new Array(7).fill(412)])
  let { etag } = created.find(({ status }) => status === 201)?.headers ?? {}
  for (let round = 0; round < 5; round++) {
    const moved = await all(match(etag))
    t.same(statusesOf(moved), [200, ...new Array(7).fill(412)])
    const winner = moved.find(({ status }) => status === 200)
    t.equal((await call('GET', '/race')).json.offset, winner?.json.offset)
    etag = winner?.headers.etag
  }
  await call('DELETE', '/race')
})

t.test('POST is refused, and says what to send', async (t) => {
  const { status, headers, json } = await call('POST', '/a', {}, { offset: '-1' })
  t.equal(status, 405)
  t.equal(headers.allow, 'DELETE, GET, HEAD, OPTIONS, PUT')
  t.match(json.detail, /PUT \/v1\/consumers\/\{name\} creates a consumer/)
})

t.test('keys with the scope read share the names, also if they are limited to source prefixes', async (t) => {
  const limited = (await makeKey({ scopes: ['read'], sourcePrefixes: ['other'] })).token
  const ingest = (await makeKey({ scopes: ['ingest', 'admin'] })).token
  const created = await call('PUT', '/shared', CREATE, { offset: first }, limited)
  t.equal(created.status, 201)
  const found = await call('GET', '/shared', {}, undefined, limited)
  t.match(found.json, { lag: { records: 1 } }, 'all records count, not only those of the key')
  t.equal((await put('shared', second, match(created.headers.etag))).status, 200)
  t.match((await call('GET', '/shared', {}, undefined, limited)).json, { offset: second })
  for (const [method, path, body] of [
    ['GET', '', undefined],
    ['GET', '/shared', undefined],
    ['PUT', '/shared', { offset: '-1' }],
    ['DELETE', '/shared', undefined],
  ] as const)
    isProblem(t, await call(method, path, match('*'), body, ingest), 'forbidden')
  t.equal((await call('DELETE', '/shared', {}, undefined, limited)).status, 204)
})

t.test('there may be a thousand consumers', async (t) => {
  await put('last', '-1')
  await sql`
    INSERT INTO sluice.consumers (name, epoch, xid, n) SELECT 'many-' || n, 0, '0', 0 FROM generate_series(1, 998) AS n`.execute(
    root,
  )
  t.equal((await put('one more', '-1')).status, 400)
  t.equal((await put('one-more', '-1')).status, 201)
  const refused = await put('too-many', '-1')
  isProblem(t, refused, 'too_many_consumers')
  t.match(refused.json.detail, /Delete one that nobody uses: GET \/v1\/consumers lists all/)
  isProblem(t, await put('last', '-1'), 'precondition_failed')
  t.equal((await put('last', first, match('*'))).status, 200, 'existing ones can still move')
  t.equal((await call('GET', '')).json.consumers.length, 1000)
  await sql`DELETE FROM sluice.consumers`.execute(root)
})

t.test('a list that is too large for the memory of responses is refused', async (t) => {
  await until('the responses before to be taken', () => app.responseMemory.used === 0)
  await sql`
    INSERT INTO sluice.consumers (name, epoch, xid, n) SELECT 'many-' || n, 0, '0', 0 FROM generate_series(1, 100) AS n`.execute(
    root,
  )
  const reserved = app.responseMemory.max - 12 * 1024
  app.responseMemory.reserve('another key', reserved)
  t.teardown(() => app.responseMemory.release('another key', reserved))
  isProblem(t, await call('GET', ''), 'overloaded')
  await sql`DELETE FROM sluice.consumers`.execute(root)
})

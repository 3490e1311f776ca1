import { sql } from 'kysely'
import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { until } from '../helpers/until.ts'

const server = await createApp(t)
const { app, makeKey } = server
const root = connect(server.database.superUrl)
t.teardown(() => root.destroy())
const admin = await makeKey({ scopes: ['admin'] })

type Method = 'GET' | 'POST' | 'DELETE'

async function call(method: Method, path: string, body?: unknown, token = admin.token) {
  const response = await app.inject({
    method,
    url: `/v1/keys${path}`,
    headers: {
      authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { payload: typeof body === 'string' ? body : JSON.stringify(body) }),
  })
  const json = response.body === '' ? undefined : response.json()
  return { status: response.statusCode, headers: response.headers, text: response.body, json }
}

const statusWith = async (token: string, path = '/v1/records') =>
  (await app.inject({ url: path, headers: { authorization: `Bearer ${token}` } })).statusCode

const SHOP = {
  name: 'shop',
  scopes: ['ingest', 'read'],
  sourcePrefixes: ['shop', 'https://shop.example'],
  recordsPerSecond: 500,
  expiresAt: '2999-01-31T13:00:00+01:00',
}

const KEY = { name: 'a', scopes: ['read'] }

t.test('a created key works, is limited as requested, and is shown only in this response', async (t) => {
  const { status, headers, json } = await call('POST', '', SHOP)
  t.equal(status, 201)
  t.equal(headers['cache-control'], 'no-store')
  t.match(json.token, new RegExp(`^sluice_${json.id}_[\\w-]{43}$`))
  t.match(json, { ...SHOP, expiresAt: '2999-01-31T12:00:00Z', revokedAt: null, state: 'active' })
  t.match(json.createdAt, /^\d{4}-\d\d-\d\dT.*Z$/)

  t.equal(await statusWith(json.token), 200)
  t.equal(await statusWith(json.token, '/v1/records/other/1'), 403)
  const list = await call('GET', '')
  t.equal(list.status, 200)
  const { token, ...listed } = json
  t.same(
    list.json.keys.find(({ id }: { id: string }) => id === json.id),
    listed,
  )
  t.notMatch(list.text, token.slice(-43))
  t.equal(server.logs.filter((line) => JSON.stringify(line).includes(token)).length, 0)
})

// After a key with the scope admin has leaked, nobody could say what it had created or revoked.
t.test('the log has the id of each created and revoked key, and of the key that did it', async (t) => {
  const { json } = await call('POST', '', KEY)
  await call('DELETE', `/${json.id}`)
  await call('DELETE', `/${json.id}x`)
  t.match(
    server.logs.filter(({ managedKey }) => String(managedKey).startsWith(json.id)),
    [
      { level: 'info', msg: 'an API key was created', key: admin.id, managedKey: json.id, requestId: String },
      { level: 'info', msg: 'an API key was revoked', key: admin.id, managedKey: json.id, requestId: String },
    ],
  )
  t.equal(server.logs.filter(({ managedKey }) => String(managedKey).startsWith(json.id)).length, 2)
})

t.test('only the name and the scopes are required', async (t) => {
  const { status, json } = await call('POST', '', { name: 'all', scopes: ['read'] })
  t.equal(status, 201)
  t.match(json, { sourcePrefixes: [], recordsPerSecond: null, expiresAt: null })
})

t.test('the list has every key with its state, and no hash', async (t) => {
  const expired = await makeKey({ expiresAt: new Date(Date.now() - 1000) })
  const { json, text } = await call('GET', '')
  const { rows } = await sql<{ id: string; hash: string }>`
    SELECT id, encode(hash, 'hex') AS hash FROM sluice.keys ORDER BY created_at, id`.execute(root)
  t.same(
    json.keys.map(({ id }: { id: string }) => id),
    rows.map(({ id }) => id),
  )
  for (const { hash } of rows) t.notOk(text.includes(hash))
  t.equal(json.keys.find(({ id }: { id: string }) => id === expired.id).state, 'expired')
})

t.test('a revoked key is refused, is listed as revoked, and can be revoked again', async (t) => {
  const { json } = await call('POST', '', { name: 'short', scopes: ['read'] })
  t.equal(await statusWith(json.token), 200)
  for (let at = 0; at < 2; at++) t.equal((await call('DELETE', `/${json.id}`)).status, 204)
  await until('the key to be refused', async () => (await statusWith(json.token)) === 401)
  const { keys } = (await call('GET', '')).json
  t.match(
    keys.find(({ id }: { id: string }) => id === json.id),
    { state: 'revoked', revokedAt: /Z$/ },
  )
})

t.test('an unknown id is 404', async (t) => {
  const { status, json } = await call('DELETE', '/no-such-key')
  t.equal(status, 404)
  t.match(json, { code: 'not_found', detail: /no-such-key/ })
  // PostgreSQL cannot store U+0000, so this was an internal error.
  for (const id of ['', '%00', 'a%0ab', '%ef%bf%bd']) t.equal((await call('DELETE', `/${id}`)).status, 404, id)
})

const INVALID: [string, unknown, string, string, RegExp][] = [
  ['no name', { scopes: ['read'] }, '/name', 'required', /name/],
  ['an empty name', { ...KEY, name: '' }, '/name', 'invalid_value', /name/],
  ['a name that is not a string', { ...KEY, name: 1 }, '/name', 'invalid_value', /string/],
  ['no scope', { ...KEY, scopes: [] }, '/scopes', 'invalid_value', /scopes/],
  ['an unknown scope', { ...KEY, scopes: ['write'] }, '/scopes/0', 'invalid_value', /ingest, read, admin/],
  ['an unknown field', { ...KEY, scope: 'read' }, '/scope', 'unknown_field', /scope/],
  ['a rate as text', { ...KEY, recordsPerSecond: '500' }, '/recordsPerSecond', 'invalid_value', /from 1 to 1000000/],
  ['a rate of 0', { ...KEY, recordsPerSecond: 0 }, '/recordsPerSecond', 'invalid_value', /from 1 to 1000000/],
  [
    'a prefix for every source',
    { ...KEY, sourcePrefixes: ['a', '*'] },
    '/sourcePrefixes/1',
    'invalid_value',
    /every source/,
  ],
  ['an expiry that is not a time', { ...KEY, expiresAt: '90d' }, '/expiresAt', 'invalid_time', /RFC 3339/],
  ['an expiry in the past', { ...KEY, expiresAt: '2020-01-01T00:00:00Z' }, '/expiresAt', 'invalid_value', /past/],
  [
    'an expiry in seconds',
    { ...KEY, expiresAt: 1893456000 },
    '/expiresAt',
    'invalid_value',
    /it is 2030-01-01T00:00:00Z/,
  ],
  ['an array', [KEY], '', 'invalid_value', /body.*\{"name":"shop","scopes":\["ingest"\]\}/],
  ['a repeated field', '{"name":"a","scopes":["read"],"\\u006eame":"b"}', '/name', 'repeated_field', /twice/],
  ['U+0000 in the name', { ...KEY, name: 'a\0b' }, '/name', 'unstorable_string', /U\+0000/],
  ['a lone surrogate in the name', '{"name":"\\ud800","scopes":["read"]}', '/name', 'unstorable_string', /surrogate/],
  ['U+0000 in a prefix', { ...KEY, sourcePrefixes: ['a\0b'] }, '/sourcePrefixes/0', 'invalid_value', /U\+0000/],
]
for (const [what, body, pointer, code, detail] of INVALID) {
  t.test(`a request with ${what} is refused with a pointer, and creates nothing`, async (t) => {
    const before = await count()
    const { status, json } = await call('POST', '', body)
    t.equal(status, 422)
    t.match(json, {
      code: 'invalid_body',
      outcome: 'not_written',
      retryable: false,
      errors: [{ pointer, code, detail }],
    })
    t.equal(json.errors.filter((error: { pointer: string }) => error.pointer === pointer).length, 1)
    t.equal(await count(), before)
  })
}

// One request took minutes, and its response had 27 MB.
t.test('a response names at most a hundred faults, and cuts long names', async (t) => {
  const fields = Object.fromEntries(Array.from({ length: 20_000 }, (_, n) => [`field${n}`, n]))
  for (const body of [
    { ...KEY, scopes: new Array(240_000).fill(1) },
    { ...KEY, ...fields },
  ]) {
    const { status, json } = await call('POST', '', body)
    t.equal(status, 422)
    t.equal(json.errors.length, 100)
  }
  const name = 'x'.repeat(200_000)
  for (const body of [`{"${name}":1}`, `{"${name}":1,"${name}":2}`]) {
    const { status, text } = await call('POST', '', body)
    t.equal(status, 422)
    t.ok(text.length < 2000, 'a long name is cut')
  }
})

t.test('a list that is too large for the memory of responses is refused', async (t) => {
  const { max, used } = app.responseMemory
  t.equal(used, 0)
  app.responseMemory.reserve('another key', max - 12 * 1024)
  t.teardown(() => app.responseMemory.release('another key', max - 12 * 1024))
  await sql`INSERT INTO sluice.keys (id, name, hash, scopes)
    SELECT 'many' || n, repeat('x', 200), sha256(n::text::bytea), '{read}' FROM generate_series(1, 20) AS n`.execute(
    root,
  )
  t.match((await call('GET', '')).json, { status: 503, code: 'overloaded' })
  await sql`DELETE FROM sluice.keys WHERE id LIKE 'many%'`.execute(root)
})

// Requests that waited for the table took all connections for single records.
t.test(
  'requests that wait for the table of keys leave connections to records, and end with their clients',
  async (t) => {
    const url = await app.listen({ port: 0 })
    // One key alone could not use all connections.
    const keys = await Promise.all([1, 2, 3].map(() => makeKey({ scopes: ['admin'] })))
    for (const { token } of keys) t.equal((await call('DELETE', '/no-such-key', undefined, token)).status, 404)
    const lock = await root.startTransaction().execute()
    await sql`LOCK TABLE sluice.keys`.execute(lock)
    const clients = new AbortController()
    const send = (token: string) => {
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
      return fetch(`${url}/v1/keys`, { method: 'POST', headers, body: JSON.stringify(KEY), signal: clients.signal })
    }
    const sent = [...keys, ...keys].map(({ token }) => send(token).catch(({ name }) => name))
    await until('the requests to wait', () => app.responseMemory.used >= 6 * 10 * 1024)
    t.equal((await server.get('/v1/records/shop/1')).status, 404)
    clients.abort()
    t.same(await Promise.all(sent), new Array(6).fill('AbortError'))
    await until('the requests to end', () => app.responseMemory.used === 0)
    await lock.rollback().execute()
    t.same(
      server.logs.filter(({ level, err }) => level === 'error' && err !== undefined),
      [],
    )
  },
)

t.test('a body that is not JSON, is too large or has another media type is refused', async (t) => {
  t.match((await call('POST', '', '{')).json, { status: 400, code: 'invalid_json' })
  t.match((await call('POST', '', '')).json, { status: 400, code: 'empty_body', detail: /describes the key/ })
  t.match((await call('POST', '', ' '.repeat(600_000))).json, { status: 413, code: 'body_too_large' })
  const response = await app.inject({
    method: 'POST',
    url: '/v1/keys',
    headers: { authorization: `Bearer ${admin.token}`, 'content-type': 'text/csv' },
    payload: 'a,b',
  })
  t.match(response.json(), { status: 415, code: 'unsupported_media_type' })
})

t.test('only a key with the scope admin and without source prefixes can manage keys', async (t) => {
  const limited = await makeKey({ scopes: ['admin'], sourcePrefixes: ['shop'] })
  const others = await makeKey({ scopes: ['ingest', 'read'] })
  for (const token of [limited.token, others.token]) {
    const before = await count()
    for (const [method, path, body] of [
      ['GET', ''],
      ['POST', '', KEY],
      ['DELETE', `/${admin.id}`],
    ] as const) {
      t.match((await call(method, path, body, token)).json, { status: 403, code: 'forbidden' }, `${method} ${path}`)
    }
    t.equal(await count(), before)
  }
  t.equal((await app.inject({ method: 'DELETE', url: `/v1/keys/${admin.id}` })).statusCode, 401)
  t.equal((await call('GET', '')).status, 200)
})

t.test('if the database fails, the outcome says what is known about the change', async (t) => {
  await withTrigger("RAISE EXCEPTION 'no' USING ERRCODE = '53100'", async () => {
    t.match((await call('POST', '', KEY)).json, { status: 503, code: 'database_unavailable', outcome: 'not_written' })
  })
  await withTrigger('PERFORM pg_terminate_backend(pg_backend_pid())', async () => {
    const outcome = 'unknown'
    t.match((await call('POST', '', KEY)).json, { status: 503, code: 'database_unavailable', outcome })
    t.match((await call('DELETE', `/${admin.id}`)).json, { status: 503, code: 'database_unavailable', outcome })
    // The key may exist: its id must be in the log.
    t.match(
      server.logs.filter(({ msg }) => /^it is unknown/.test(String(msg))),
      [
        { level: 'warn', key: admin.id, managedKey: /^[0-9a-f]{12}$/, msg: /created$/ },
        { level: 'warn', key: admin.id, managedKey: admin.id, msg: /revoked$/ },
      ],
    )
  })
})

async function withTrigger(statement: string, work: () => Promise<void>): Promise<void> {
  await sql`CREATE FUNCTION sluice.fail() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    AS ${sql.lit(`BEGIN ${statement}; RETURN NEW; END`)}`.execute(root)
  const trigger = sql`CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON sluice.keys FOR EACH ROW EXECUTE FUNCTION sluice.fail()`
  await trigger.execute(root)
  const drop = () => sql`DROP FUNCTION sluice.fail() CASCADE`.execute(root)
  await work().finally(drop)
}

async function count(): Promise<number> {
  const { rows } = await sql<{ n: number }>`SELECT count(*)::int AS n FROM sluice.keys`.execute(root)
  return rows[0]?.n ?? -1
}

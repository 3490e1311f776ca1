import { sql } from 'kysely'
import t from 'tap'
import { revokeKey } from '../../src/access/manage-keys.ts'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { openClient } from '../helpers/http.ts'
import { isProblem } from '../helpers/problem.ts'
import { exchange, head, listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

const { app, key, post, get, makeKey, database } = await createApp(t)
const port = await listen(app)
const record = { source: 's', type: 't' }

t.test('a request without a valid key is 401, and the response says how to send one', async (t) => {
  const { token } = await makeKey()
  for (const [name, authorization] of [
    ['unknown', `Bearer sluice_000000000000_${'x'.repeat(43)}`],
    ['a prefix of a key', `Bearer ${token.slice(0, -1)}`],
    ['a key and more', `Bearer ${token}x`],
    ['another scheme', `Basic ${token}`],
    ['no scheme', token],
    ['no token', 'Bearer'],
    ['two tokens', `Bearer ${token} ${token}`],
    ['odd characters', 'Bearer <script>'],
  ] as const) {
    for (const answer of [await post(record, { authorization }), await get('/v1/records', { authorization })]) {
      isProblem(t, answer, 'unauthorized', { name })
      t.match(answer.headers['www-authenticate'], /^Bearer realm="sluice"/, name)
    }
  }
  for (const [method, url] of [
    ['POST', '/v1/records'],
    ['GET', '/v1/records'],
    ['GET', '/v1/records/s/1'],
  ] as const) {
    const answer = await app.inject({ method, url })
    isProblem(t, { status: answer.statusCode, headers: answer.headers, json: answer.json() }, 'unauthorized')
  }
  t.equal((await post(record, { authorization: `bearer ${token}` })).status, 201, 'the scheme is case-insensitive')
})

t.test('a scope allows what it names and nothing else', async (t) => {
  const ingest = `Bearer ${(await makeKey({ scopes: ['ingest'] })).token}`
  const read = `Bearer ${(await makeKey({ scopes: ['read'] })).token}`
  const admin = `Bearer ${(await makeKey({ scopes: ['admin'] })).token}`
  t.equal((await post(record, { authorization: ingest })).status, 201)
  t.equal((await get('/v1/records', { authorization: read })).status, 200)
  for (const authorization of [read, admin]) {
    const answer = await post(record, { authorization })
    isProblem(t, answer, 'forbidden')
    t.match(answer.headers['www-authenticate'], 'error="insufficient_scope", scope="ingest"')
  }
  for (const authorization of [ingest, admin])
    isProblem(t, await get('/v1/records/s/1', { authorization }), 'forbidden')
})

t.test('a key works before its expiry and not after it', async (t) => {
  const later = await makeKey({ expiresAt: new Date(Date.now() + 60_000) })
  const over = await makeKey({ expiresAt: new Date(Date.now() - 1) })
  t.equal((await get('/v1/records', { authorization: `Bearer ${later.token}` })).status, 200)
  const answer = await get('/v1/records', { authorization: `Bearer ${over.token}` })
  isProblem(t, answer, 'unauthorized')
  t.match(answer.json.detail, 'expired')
})

t.test('a key that expires while the server runs stops working', async (t) => {
  const { token } = await makeKey({ expiresAt: new Date(Date.now() + 3_600_000) })
  const ask = () => get('/v1/records?limit=1', { authorization: `Bearer ${token}` })
  t.equal((await ask()).status, 200)
  const { now } = Date
  t.teardown(() => {
    Date.now = now
  })
  Date.now = () => now() + 3_600_000
  isProblem(t, await ask(), 'unauthorized')
})

t.test('a new key works at once, and a revoked one is refused after the next read of the keys', async (t) => {
  const [old, fresh] = [await makeKey(), await makeKey()]
  const ask = ({ token }: { token: string }) => get('/v1/records?limit=1', { authorization: `Bearer ${token}` })
  t.equal((await ask(old)).status, 200)
  t.equal((await ask(fresh)).status, 200, 'two keys are valid during a rotation')

  const db = connect(database.ownerUrl)
  t.equal(await revokeKey(db as never, old.id).finally(() => db.destroy()), true)
  const refused = await until('the key to be refused', async () => {
    const answer = await ask(old)
    return answer.status !== 200 && answer
  })
  isProblem(t, refused, 'unauthorized')
  t.match(refused.json.detail, 'revoked')
  t.equal((await ask(fresh)).status, 200)
})

// The keys were read on the connections for lists: five slow lists kept revoked keys valid for half a minute.
t.test('a revoked key is refused even while lists occupy all their connections', async (t) => {
  const slow = await createApp(t, { READ_CONNECTIONS: '1' })
  const { id, token } = await slow.makeKey()
  const status = async () => (await slow.get('/v1/records?limit=0', { authorization: `Bearer ${token}` })).status
  t.equal(await status(), 400)
  const [db, other] = [connect(slow.database.ownerUrl), connect(slow.database.ownerUrl)]
  t.teardown(() => Promise.all([db.destroy(), other.destroy()]))
  let list: Promise<{ status: number }> | undefined
  await db.transaction().execute(async (trx) => {
    await sql`LOCK TABLE sluice.records`.execute(trx)
    list = slow.get('/v1/records')
    await revokeKey(other as never, id)
    await until('the key to be refused', async () => (await status()) === 401)
  })
  t.equal((await list)?.status, 200, 'the list waited until then')
})

t.test('a request without a key or the right scope is refused before its body is sent', async (t) => {
  const big = { 'Content-Type': 'application/json', 'Content-Length': '1000000000' }
  isProblem(t, await exchange(port, head('POST', '/v1/records', big)), 'unauthorized')
  const read = { ...big, Authorization: `Bearer ${(await makeKey({ scopes: ['read'] })).token}` }
  isProblem(t, await exchange(port, head('POST', '/v1/records', read)), 'forbidden')
  const chunked = { 'Content-Type': 'application/json', 'Transfer-Encoding': 'chunked' }
  isProblem(t, await exchange(port, head('POST', '/v1/records', chunked)), 'unauthorized')
  t.equal(app.ingestMemory.used, 0, 'nothing is reserved')
})

t.test('with Expect: 100-continue, the server asks for the body only if it does not refuse the request', async (t) => {
  const expecting = { 'Content-Type': 'application/json', 'Content-Length': '1000000', Expect: '100-continue' }
  for (const [code, headers] of [
    ['unauthorized', expecting],
    ['unsupported_media_type', { ...expecting, 'Content-Type': 'text/xml', Authorization: `Bearer ${key}` }],
  ] as const) {
    const refused = await exchange(port, head('POST', '/v1/records', headers))
    isProblem(t, refused, code)
    t.equal(refused.headers.connection, 'close', 'the client may or may not send the body')
  }
  const client = openClient(t, port, key)
  const body = JSON.stringify({ source: 's', type: 't', id: 'asked for' })
  const { request, answer } = client.open('POST', '/v1/records', {
    ...expecting,
    'Content-Length': String(body.length),
  })
  request.on('continue', () => request.end(body))
  t.equal((await answer).status, 201)
})

t.test('the key is checked before the media type, the other headers and the query', async (t) => {
  const authorization = 'Bearer nonsense'
  const wrong: Record<string, string>[] = [
    { 'content-type': 'text/xml' },
    { 'content-encoding': 'zip' },
    { 'idempotency-key': '' },
  ]
  for (const headers of wrong) {
    isProblem(t, await post('<', { authorization, ...headers }), 'unauthorized')
  }
  isProblem(t, await get('/v1/records?nonsense=1', { authorization }), 'unauthorized')
})

t.test('only the hash of a key is stored', async (t) => {
  const { token } = await makeKey()
  const db = connect(database.superUrl)
  t.teardown(() => db.destroy())
  const { rows } = await sql<{ row: string }>`SELECT k::text AS row FROM sluice.keys AS k`.execute(db)
  t.ok(rows.length > 1)
  t.notOk(rows.some(({ row }) => row.includes(token) || row.includes(token.slice(20))))
})

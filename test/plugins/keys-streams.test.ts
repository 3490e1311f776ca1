import { randomBytes } from 'node:crypto'
import { connect as open } from 'node:net'
import { mock } from 'node:test'
import { type Kysely, sql } from 'kysely'
import t, { type Test } from 'tap'
import { createApp, type TestApp } from '../helpers/app.ts'
import { turn } from '../helpers/clock.ts'
import { connect } from '../helpers/connect.ts'
import { openClient } from '../helpers/http.ts'
import { untilBlocked } from '../helpers/locks.ts'
import { isProblem } from '../helpers/problem.ts'
import { head, listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

// A key was checked when a request began, and never again: after its revocation, lines were stored and an export continued for as
// long as the connection lasted.

const NDJSON = { 'content-type': 'application/x-ndjson' }
const line = (source: string, id: string | number) => `{"source":"${source}","type":"t","id":"${id}"}\n`
/** After this time, something other than the loss of its key ends a stream. */
const OTHER_END_SECONDS = '60'
/** A busy machine must not shed requests here. */
const PATIENT = {
  SHED_INGEST_SECONDS: '60',
  SHED_READ_SECONDS: '60',
  OUTAGE_HOLD_SECONDS: OTHER_END_SECONDS,
  STALL_SECONDS: OTHER_END_SECONDS,
}
/** How often the keys are read again (test/access/key-ring.test.ts): here, the test controls the timer. */
const REFRESH_MS = 2_000
mock.timers.enable({ apis: ['setInterval'] })

const server = await createApp(t, PATIENT)
// Before the server closes, which needs a real interval.
t.teardown(() => mock.timers.reset())
const { app, get, post, makeKey, database, logs } = server
const port = await listen(app)
const root: Kysely<unknown> = connect(database.superUrl)
t.teardown(() => root.destroy())

const revoke = (id: string) => sql`UPDATE sluice.keys SET revoked_at = now() WHERE id = ${id}`.execute(root)

// More than any buffer on the way holds, compressed or not.
const filler = randomBytes(75_000).toString('base64')
await sql`
  INSERT INTO sluice.records (epoch, n, source, id, type, data)
  SELECT 1, n, 'large', n, 't', to_json(${filler}::text) FROM generate_series(1, 300) AS n`.execute(root)

/** Lets the keys be read again until the promise settles. */
async function refreshed<T>(promise: Promise<T>): Promise<T> {
  let over = false
  const end = () => {
    over = true
  }
  promise.then(end, end)
  // More than once, because a read that began earlier may still be running.
  await until('the effect of reading the keys again', () => {
    mock.timers.tick(REFRESH_MS)
    return over
  })
  return promise
}

/** Opens a stream of lines whose first line is stored. */
async function openStream(t: Test, token: string, source: string) {
  const { request, answer } = openClient(t, port, token).open('POST', '/v1/records', NDJSON)
  request.write(line(source, 'first'))
  await until('the first line', async () => (await get(`/v1/records/${source}/first`)).status === 200)
  return { request, answer }
}

async function countOf(source: string): Promise<number> {
  const { rows } = await sql<{
    n: number
  }>`SELECT count(*)::integer AS n FROM sluice.records WHERE source = ${source}`.execute(root)
  return rows[0]?.n as number
}

t.test('an idle stream of lines ends when its key loses a right', async (t) => {
  const losses = [
    ['revoked', 'unauthorized', revoke],
    ['removed', 'unauthorized', (id: string) => sql`DELETE FROM sluice.keys WHERE id = ${id}`.execute(root)],
    [
      'without-scope',
      'forbidden',
      (id: string) => sql`UPDATE sluice.keys SET scopes = '{read}' WHERE id = ${id}`.execute(root),
    ],
    [
      'without-source',
      'source_forbidden',
      (id: string) => sql`UPDATE sluice.keys SET source_prefixes = '{elsewhere/}' WHERE id = ${id}`.execute(root),
    ],
  ] as const
  await Promise.all(
    losses.map(async ([source, code, lose]) => {
      const { id, token } = await makeKey({ scopes: ['ingest'], sourcePrefixes: [source, 'other'] })
      const { answer } = await openStream(t, token, source)
      await lose(id)
      const ended = await refreshed(answer)
      isProblem(t, ended, code, { name: source, outcome: 'unknown' })
      t.match(ended.json, { counts: { created: 1 }, lines: 1, committedLines: 1, rejections: [] }, `${source}: report`)
    }),
  )
})

t.test('a change that takes no right from a key does not end its streams', async (t) => {
  const { id, token } = await makeKey({ scopes: ['ingest'], sourcePrefixes: ['kept'] })
  const { request, answer } = await openStream(t, token, 'kept')
  await sql`
    UPDATE sluice.keys SET scopes = '{ingest,read}', source_prefixes = '{more,kept}', expires_at = now() + '1 day' WHERE id = ${id}
  `.execute(root)
  const mayRead = async () => (await get('/v1/records?limit=1', { authorization: `Bearer ${token}` })).status === 200
  await refreshed(until('the new scope', mayRead))
  request.end(line('kept', 'second'))
  t.match(await answer, { status: 201, json: { counts: { created: 2 } } })
})

t.test('no line of an active stream is stored after its refusal, and the report counts all stored ones', async (t) => {
  const { id, token } = await makeKey({ scopes: ['ingest'] })
  const { request, answer } = await openStream(t, token, 'busy')
  let over = false
  answer.then(() => {
    over = true
  })
  const sending = (async () => {
    for (let n = 0; !over; n++) {
      request.write(line('busy', n))
      await turn()
    }
    request.end()
  })()
  await until('more lines', async () => (await countOf('busy')) > 1)
  await revoke(id)
  const ended = await refreshed(answer)
  await sending
  isProblem(t, ended, 'unauthorized', { outcome: 'unknown' })
  t.match(ended.json.detail, 'revoked')
  t.equal(ended.json.committedLines, ended.json.counts.created)
  t.equal(await countOf('busy'), ended.json.counts.created)
})

// The lines waited for as long as the lock was held, up to OUTAGE_HOLD_SECONDS. Those in the queue were stored afterwards.
t.test('if the database does not respond, lines in the queue are withdrawn when their key is revoked', async (t) => {
  const { id, token } = await makeKey({ scopes: ['ingest'] })
  const locking = connect(database.superUrl)
  t.teardown(() => locking.destroy())
  const lock = await locking.startTransaction().execute()
  await sql`LOCK TABLE sluice.records IN ACCESS EXCLUSIVE MODE`.execute(lock)
  const { request, answer } = openClient(t, port, token).open('POST', '/v1/records', NDJSON)
  request.end(Array.from({ length: 6000 }, (_, n) => line('locked', n)).join(''))
  await until('three chunks, two of them in a flush', () => {
    const { waiting, writing } = app.writer.status
    return waiting === 3 && writing === 2
  })
  await revoke(id)
  const ended = await refreshed(answer)
  isProblem(t, ended, 'unauthorized', { outcome: 'unknown' })
  t.match(ended.json, { detail: /revoked/, counts: { created: 0 }, lines: 6000, committedLines: 0, rejections: [] })

  await lock.rollback().execute()
  await until('the flushes to end', () => app.writer.status.writing === 0)
  const { rows } = await sql<{ first: number; last: number }>`
    SELECT min(id::integer) AS first, max(id::integer) AS last FROM sluice.records WHERE source = 'locked'`.execute(
    root,
  )
  const { first, last } = rows[0] as (typeof rows)[0]
  t.equal(first, 0, 'the chunks that were being written are stored')
  t.ok(last < 4000, `after line ${last + 1} nothing is stored`)
})

t.test('a stream that waits for the rate of its key ends when the key is revoked', async (t) => {
  const { id, token } = await makeKey({ scopes: ['ingest'], recordsPerSecond: 1 })
  const { request, answer } = openClient(t, port, token).open('POST', '/v1/records', NDJSON)
  request.end(Array.from({ length: 9000 }, (_, n) => line('slow', n)).join(''))
  await until('the first lines', async () => (await countOf('slow')) > 0)
  await revoke(id)
  const ended = await refreshed(answer)
  isProblem(t, ended, 'unauthorized', { outcome: 'unknown' })
  t.equal(await countOf('slow'), ended.json.counts.created)
  t.ok(ended.json.counts.created < 9000)
})

t.test('a batch whose key is revoked while the body arrives is refused, and nothing is stored', async (t) => {
  const { id, token } = await makeKey({ scopes: ['ingest'] })
  const body = JSON.stringify([{ source: 'late', type: 't', id: '1' }])
  const { request, answer } = openClient(t, port, token).open('POST', '/v1/records', {
    'content-type': 'application/json',
    'content-length': String(body.length),
  })
  request.write(body.slice(0, 10))
  await until('its bytes', () => app.ingestMemory.used > 0)
  await revoke(id)
  const refused = async () => (await post('', { authorization: `Bearer ${token}` })).status === 401
  await refreshed(until('other requests to be refused', refused))
  request.end(body.slice(10))
  isProblem(t, await answer, 'unauthorized')
  t.equal(await countOf('late'), 0)
  t.equal(app.ingestMemory.used, 0)
})

// — exports —

/** Finds the log line about the export of this key. */
const cutOffLine = (id: string) => () =>
  logs.find(({ msg, key }) => key === id && /response was cut off/.test(String(msg)))

t.test('an export with a stalled reader is cut off when its key loses a right, and the log says so', async (t) => {
  const narrow = (id: string) => sql`UPDATE sluice.keys SET source_prefixes = '{small}' WHERE id = ${id}`.execute(root)
  for (const [name, lose, headers] of [
    ['NDJSON', revoke, { accept: 'application/x-ndjson' }],
    ['CSV, compressed', revoke, { accept: 'text/csv', 'accept-encoding': 'gzip' }],
    ['other sources', narrow, { accept: 'application/x-ndjson' }],
  ] as const) {
    const { id, token } = await makeKey({ scopes: ['read'] })
    const answer = await openClient(t, port, token).read('/v1/records?source=large', headers)
    t.equal(answer.statusCode, 200)
    await lose(id)
    await refreshed(until(`${name}: the line in the log`, cutOffLine(id)))
    await t.rejects(answer.toArray(), { code: 'ECONNRESET' }, `${name}: the reader gets an error`)
    t.notOk(answer.complete, name)
  }
})

// In HTTP/1.0, the end of the connection is the end of the response, and nginx uses HTTP/1.0 by default.
t.test('an HTTP/1.0 export of a revoked key is reset, and does not look complete', async (t) => {
  const { id, token } = await makeKey({ scopes: ['read'] })
  const socket = open(port, '127.0.0.1')
  t.teardown(() => socket.destroy())
  const end = new Promise<string>((resolve) => {
    socket.once('end', () => resolve('end')).once('error', ({ code }: NodeJS.ErrnoException) => resolve(String(code)))
  })
  const headers = { Authorization: `Bearer ${token}`, Accept: 'application/x-ndjson' }
  socket.write(head('GET', '/v1/records?source=large', headers).replace('HTTP/1.1', 'HTTP/1.0'))
  await new Promise((resolve) => socket.once('data', resolve))
  socket.pause()
  await revoke(id)
  await refreshed(until('the line in the log', cutOffLine(id)))
  socket.resume()
  t.equal(await end, 'ECONNRESET')
})

t.test('a read whose key is revoked meanwhile gets 401 and no record', async (t) => {
  for (const [path, accept] of [
    ['/v1/records', 'application/x-ndjson'],
    ['/v1/records', 'application/json'],
    ['/v1/records/large/1', 'application/json'],
  ] as const) {
    const { id, token } = await makeKey({ scopes: ['read'] })
    const locking = connect(database.superUrl)
    t.teardown(() => locking.destroy())
    const lock = await locking.startTransaction().execute()
    await sql`LOCK TABLE sluice.records IN ACCESS EXCLUSIVE MODE`.execute(lock)
    const answer = openClient(t, port, token).send('GET', path, { accept })
    await untilBlocked(root, 'sluice.records')
    await revoke(id)
    const refused = async () => (await get('/v1/records?limit=0', { authorization: `Bearer ${token}` })).status === 401
    await refreshed(until('other requests to be refused', refused))
    await lock.rollback().execute()
    isProblem(t, await answer, 'unauthorized', { name: `${path} ${accept}` })
  }
})

// — outages —

t.test('a key that expires ends its streams even during an outage', async (t) => {
  const own: TestApp = await createApp(t, PATIENT)
  const { token } = await own.makeKey({ scopes: ['ingest'], expiresAt: new Date(Date.now() + 3_600_000) })
  const { request, answer } = openClient(t, await listen(own.app), token).open('POST', '/v1/records', NDJSON)
  request.write(line('expiring', 'first'))
  await until('the first line', async () => (await own.get('/v1/records/expiring/first')).status === 200)
  const { name } = own.database
  const elsewhere = connect(new URL('/postgres', own.database.superUrl).href)
  t.teardown(() => elsewhere.destroy())
  await sql`ALTER DATABASE ${sql.id(name)} ALLOW_CONNECTIONS false`.execute(elsewhere)
  await sql`SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = ${name}`.execute(elsewhere)
  const { now } = Date
  t.teardown(() => {
    Date.now = now
  })
  Date.now = () => now() + 3_600_000
  const ended = await refreshed(answer)
  await sql`ALTER DATABASE ${sql.id(name)} ALLOW_CONNECTIONS true`.execute(elsewhere)
  isProblem(t, ended, 'unauthorized', { outcome: 'unknown' })
  t.match(ended.json, { detail: /expired/, counts: { created: 1 }, committedLines: 1 })
})

import { connect as dial } from 'node:net'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { createApp, type TestApp } from '../helpers/app.ts'
import { stopClock } from '../helpers/clock.ts'
import { connect } from '../helpers/connect.ts'
import { holdStatements } from '../helpers/held.ts'
import { type HttpAnswer, openClient } from '../helpers/http.ts'
import { countWaiting } from '../helpers/locks.ts'
import { createDatabase, type TestDatabase } from '../helpers/postgres.ts'
import { isProblem } from '../helpers/problem.ts'
import { head, listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

/** The rollups read the records as well, and would wait for a locked table beside the requests that are counted. */
const UNCOUNTED = { ROLLUP_MAX_SERIES: '0' }

const NDJSON = { accept: 'application/x-ndjson' }
const CSV = { accept: 'text/csv' }
const BATCH = { accept: 'application/cloudevents-batch+json' }
/** A scan: no index serves it. */
const SCAN = '/v1/records?data=%7B%22none%22%3A1%7D'
/** How long a read waits for its turn (read/reader.ts). */
const MAX_WAIT_MS = 5_000
/** Held statements must not time out. */
const PATIENT = { READ_TIMEOUT_SECONDS: '3600' }

async function start(t: Test, settings: Record<string, string> = {}) {
  const server = await createApp(t, { ...UNCOUNTED, ...PATIENT, ...settings })
  await server.post({ source: 'shop', type: 't', id: '1', data: {} })
  return { ...server, port: await listen(server.app), held: await holdStatements(t, server.database, '@>') }
}

/** Sends requests, each on its own connection. `leave` closes the connection. */
function begin(t: Test, port: number, key: string, paths: readonly string[], headers = {}, method = 'GET') {
  return paths.map((path) => {
    const { request, answer } = openClient(t, port, key).open(method, path, headers)
    request.end()
    return { answer, leave: () => request.destroy() }
  })
}

const bearer = (key: string) => ({ authorization: `Bearer ${key}` })
const scans = (count: number) => Array.from({ length: count }, () => SCAN)

// Fifteen such queries took all connections for reads, and continued after their clients had disconnected. Meanwhile, a single
// record got 503 "The database is not available".
t.test('scans of one key block neither single records nor the lists of other keys', async (t) => {
  const { app, get, key, port, held, makeKey } = await start(t)
  const other = bearer((await makeKey()).token)
  const clock = stopClock(t)
  const clients = begin(t, port, key, scans(15))
  await held.count(3)
  await until('the others to wait', () => app.semaphores.list.waiting === 12)

  t.equal((await get('/v1/records/shop/1')).status, 200)
  t.equal((await get('/v1/records', other)).json.records.length, 1)
  t.match((await get('/v1/records', { ...other, ...NDJSON })).text, /"id":"1"/)
  t.match((await get('/v1/records?order=asc', { ...other, ...CSV })).text, /^shop,1,t,/m)

  await t.test('a list that has waited too long for its turn is refused as overloaded', async (t) => {
    const refused = get('/v1/records')
    await until('it to wait', () => app.semaphores.list.waiting === 13)
    clock.jump(MAX_WAIT_MS)
    isProblem(t, await refused, 'overloaded')
    t.equal((await refused).headers['retry-after'], '1')
  })

  for (const { leave } of clients) leave()
  await held.count(0)
  t.equal((await get('/v1/records')).status, 200, 'the key reads again after these clients have disconnected')
  t.equal(app.semaphores.list.waiting, 0)
  await until('all reserved memory to be released', () => app.responseMemory.used === 0)
})

t.test('a query is cancelled when its client disconnects', async (t) => {
  const server = await createApp(t, UNCOUNTED)
  await server.post({ source: 'shop', type: 't', id: '1' })
  const port = await listen(server.app)
  for (const [table, method, path, headers] of [
    ['records', 'GET', '/v1/records', {}],
    ['records', 'HEAD', '/v1/records', {}],
    ['records', 'GET', '/v1/records', BATCH],
    ['records', 'GET', '/v1/records', NDJSON],
    ['records', 'HEAD', '/v1/records', NDJSON],
    ['records', 'GET', '/v1/records', CSV],
    ['epochs', 'GET', '/v1/records?order=asc', NDJSON],
    ['records', 'GET', '/v1/records/shop/1', {}],
  ] as const) {
    const name = `${method} ${path} ${JSON.stringify(headers)}`
    const waiting = await lock(t, server, table)
    const [client] = begin(t, port, server.key, [path], headers, method)
    await until(`${name}: the query`, async () => (await waiting.count()) === 1)
    client?.leave()
    await until(`${name}: its end`, async () => (await waiting.count()) === 0)
    await waiting.release()
    t.equal((await server.get('/v1/records')).status, 200, name)
  }
  t.notOk(
    server.logs.some(({ level, setting }) => (level === 'error' || level === 'warn') && setting === undefined),
    'the log has no warning about it',
  )
})

// Such a body is read to its end at once, and the end of the request was taken for a disconnect: the client got no response, and
// its connection stayed open.
t.test('a read with a body, even an empty one, gets a response and is cancelled on disconnect', async (t) => {
  const server = await createApp(t, UNCOUNTED)
  await server.post({ source: 'shop', type: 't', id: '1' })
  const port = await listen(server.app)
  const bodies = [
    [{ 'Content-Length': '0' }, ''],
    [{ 'Content-Length': '5' }, 'hello'],
    [{ 'Transfer-Encoding': 'chunked' }, '0\r\n\r\n'],
  ] as const
  for (const [headers, body] of bodies) {
    for (const [path, accept] of [
      ['/v1/records', 'application/json'],
      ['/v1/records', 'application/x-ndjson'],
      ['/v1/records/shop/1', 'application/json'],
    ] as const) {
      const name = `${path} ${accept} ${JSON.stringify(headers)}`
      const request = head('GET', path, { Authorization: `Bearer ${server.key}`, Accept: accept, ...headers }) + body
      const client = openClient(t, port, server.key)
      t.equal((await client.send('GET', path, { accept, ...headers }, body.replace('0\r\n\r\n', ''))).status, 200, name)

      const waiting = await lock(t, server, 'records')
      const socket = dial(port, '127.0.0.1').on('error', () => {})
      t.teardown(() => socket.destroy())
      // The second response waits behind the first.
      socket.write(request + request)
      await until(`${name}: both queries`, async () => (await waiting.count()) === 2)
      socket.destroy()
      await until(`${name}: their end`, async () => (await waiting.count()) === 0)
      await waiting.release()
      await until(`${name}: all reserved memory to be released`, () => server.app.responseMemory.used === 0)
    }
  }
})

t.test('a read stops waiting for its turn when its client disconnects', async (t) => {
  const { app, key, port, held } = await start(t, { READ_CONNECTIONS: '1' })
  stopClock(t)
  const clients = begin(t, port, key, [...scans(1), ...Array.from({ length: 5 }, () => '/v1/records')])
  await held.count(1)
  await until('the others to wait', () => app.semaphores.list.waiting === 5)
  for (const { leave } of clients.slice(1)) leave()
  await until('nobody to wait', () => app.semaphores.list.waiting === 0)
  await held.count(1)
  await held.release()
  t.equal((await clients[0]?.answer)?.status, 200)
})

// A request without a body takes some 10 KB of memory while it waits, and one client can send thousands.
t.test('the reads of a key that wait take only its share of the memory, and further ones are refused', async (t) => {
  const { app, key, port, held, get, makeKey } = await start(t, { UNREAD_MAX_BYTES: String(4 * 1024 * 1024) })
  const other = bearer((await makeKey()).token)
  const clients = begin(t, port, key, scans(3))
  await held.count(3)

  await t.test('while the clock is stopped, so that no read waits too long', async (t) => {
    stopClock(t)
    // Without shares, all of these would fit.
    const sent = 300
    const readers = begin(t, port, key, new Array(sent).fill('/v1/records'))
    clients.push(...readers)
    const refused: HttpAnswer[] = []
    for (const { answer } of readers)
      answer.then(
        (problem) => refused.push(problem),
        () => {},
      )
    await until('all reads to wait or to be refused', () => app.semaphores.list.waiting + refused.length === sent)
    t.ok(app.semaphores.list.waiting < 250, `${app.semaphores.list.waiting} wait`)
    t.ok(app.responseMemory.used <= app.responseMemory.max / 2, `${app.responseMemory.used} bytes are reserved`)
    for (const problem of refused) isProblem(t, problem, 'overloaded')
    t.equal((await get('/v1/records', other)).status, 200)
  })

  // The clock runs: a query is cancelled again after a while if the first cancel request has no effect.
  for (const { leave } of clients) leave()
  await until('no read to wait', () => app.semaphores.list.waiting === 0)
  await until('all reserved memory to be released', () => app.responseMemory.used === 0)
})

/** Locks a table of the server. */
async function lock(t: Test, { database }: TestApp, table: 'records' | 'epochs') {
  const [db, other] = [connect(database.superUrl), connect(database.superUrl)]
  t.teardown(() => Promise.all([db.destroy(), other.destroy()]))
  const trx = await db.startTransaction().execute()
  await sql`LOCK TABLE ${sql.table(`sluice.${table}`)}`.execute(trx)
  return {
    /** How many statements wait for the lock. */
    count: () => countWaiting(other, `sluice.${table}`),
    release: () => trx.rollback().execute(),
  }
}

const LARGE = 40
/** 16 MB of records: more than the kernels buffer for a stalled reader. */
async function fillLarge(t: Test): Promise<TestDatabase> {
  const database = await createDatabase(t)
  const server = await createApp(t, UNCOUNTED, database)
  for (let id = 0; id < LARGE; id++) {
    const record = { source: 'large', type: 't', id: String(id), data: 'x'.repeat(400_000) }
    const { status, text } = await server.post(record)
    if (status !== 201) throw new Error(text)
  }
  return database
}
const large = await fillLarge(t)

async function startLarge(t: Test, settings: Record<string, string> = {}) {
  const server = await createApp(t, { ...UNCOUNTED, ...PATIENT, ...settings }, large)
  return { ...server, port: await listen(server.app) }
}

t.test('the query for the next page of an export is cancelled when its reader disconnects', async (t) => {
  const server = await startLarge(t)
  const answer = await openClient(t, server.port, server.key).read('/v1/records', NDJSON)
  t.equal(answer.statusCode, 200)
  const waiting = await lock(t, server, 'records')
  answer.on('error', () => {}).resume()
  await until('the next page to wait', async () => (await waiting.count()) === 1)
  answer.destroy()
  await until('its end', async () => (await waiting.count()) === 0)
  await waiting.release()
  await until('all reserved memory to be released', () => server.app.responseMemory.used === 0)
})

// In HTTP/1.0, the end of the connection is the end of the response: an incomplete export looked complete.
t.test('an HTTP/1.0 export that breaks off is reset, and does not look complete', async (t) => {
  const root = connect(large.superUrl)
  t.teardown(() => root.destroy())
  const breaks = [
    ['the next page fails', {}, /broke off/, () => sql`REVOKE SELECT ON sluice.records FROM sluice_api`.execute(root)],
    ['its reader stalls', { STALL_SECONDS: '1' }, /has not read/, () => {}],
  ] as const
  for (const [name, settings, line, breakOff] of breaks) {
    await sql`GRANT SELECT ON sluice.records TO sluice_api`.execute(root)
    const { port, key, logs } = await startLarge(t, settings)
    const socket = dial(port, '127.0.0.1')
    t.teardown(() => socket.destroy())
    const end = new Promise<string>((resolve) => {
      socket.once('end', () => resolve('end')).once('error', ({ code }: NodeJS.ErrnoException) => resolve(String(code)))
    })
    const headers = { Authorization: `Bearer ${key}`, Accept: 'application/x-ndjson' }
    socket.write(head('GET', '/v1/records', headers).replace('HTTP/1.1', 'HTTP/1.0'))
    await new Promise((resolve) => socket.once('data', resolve))
    socket.pause()
    await breakOff()
    if (name === 'the next page fails') socket.resume()
    await until(`${name}: the line in the log`, () => logs.some(({ msg }) => line.test(String(msg))))
    socket.resume()
    t.equal(await end, 'ECONNRESET', name)
  }
})

t.test('an export that has begun waits for its turn without a time limit', async (t) => {
  const { app, port, key, get, makeKey, database } = await startLarge(t, { READ_CONNECTIONS: '1' })
  const held = await holdStatements(t, database, '@>')
  const clock = stopClock(t)
  const answer = await openClient(t, port, key).read('/v1/records', NDJSON)
  const other = (await makeKey()).token
  const [scan] = begin(t, port, other, [SCAN])
  await held.count(1)
  const all = answer.toArray()
  await until('the next page to wait', () => app.semaphores.list.waiting === 1)
  const refused = get('/v1/records', bearer(other))
  await until('another read to wait', () => app.semaphores.list.waiting === 2)
  clock.jump(MAX_WAIT_MS)
  isProblem(t, await refused, 'overloaded')
  t.equal(app.semaphores.list.waiting, 1, 'the export still waits')
  await held.release()
  t.equal((await scan?.answer)?.status, 200)
  t.equal(
    Buffer.concat(await all)
      .toString()
      .match(/\n/g)?.length,
    LARGE,
  )
})

t.test('forty unread exports of one key leave memory for other keys', async (t) => {
  const { app, port, key, get, makeKey } = await startLarge(t)
  const answers = await Promise.all(
    Array.from({ length: 40 }, () => openClient(t, port, key).read('/v1/records', NDJSON)),
  )
  const unread = answers.filter(({ statusCode }) => statusCode === 200)
  t.ok(unread.length > 5 && unread.length < 40, `${unread.length} of 40`)
  for (const answer of answers) if (answer.statusCode !== 200) t.equal(answer.statusCode, 503)
  isProblem(t, await get('/v1/records', NDJSON), 'overloaded')
  t.ok(app.responseMemory.used <= app.responseMemory.max / 2)

  const other = bearer((await makeKey()).token)
  t.equal((await get('/v1/records?limit=1000', other)).json.records.length, LARGE)
  t.equal((await get('/v1/records/large/1', other)).status, 200)
  t.equal((await get('/v1/records', { ...other, ...NDJSON })).text.match(/\n/g)?.length, LARGE)
  t.equal((await get('/v1/records/large/1')).status, 200, 'the key itself still reads single records')
  for (const answer of unread) answer.on('error', () => {}).destroy()
  await until('all reserved memory to be released', () => app.responseMemory.used === 0)
})

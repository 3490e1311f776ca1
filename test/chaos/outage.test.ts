import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { json } from 'node:stream/consumers'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { openNetwork } from '../../scripts/durability/proxy.ts'
import { issueKey } from '../../src/access/manage-keys.ts'
import { runServer } from '../helpers/command.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { until } from '../helpers/until.ts'

// A dead connection is found after a silence and a login without response (postgres/dead-connections.ts): four seconds, and more on a
// busy machine. TCP would give up after a quarter of an hour, which is longer than these tests may take (package.json).

// These tests mostly wait.
t.jobs = 4

t.test('while the network drops all packets, a write waits, reads fail fast, and the pod stays ready', async (t) => {
  const { server, network, post, get, shown } = await startBehindNetwork(t)
  t.equal((await post('first')).status, 201)
  await shown('first')

  network.drop()
  const waiting = post('during')
  const read = await get('first')
  t.match(read, { status: 503, retryAfter: '1', json: { code: 'database_unavailable', retryable: true } })
  await server.log(({ msg }) => msg === 'the database is unavailable: requests wait')
  t.equal((await fetch(`${server.url}/readyz`)).status, 200)

  network.heal()
  t.match(await waiting, { status: 201, json: { counts: { created: 1 } } })
  await shown('during')
  await server.log(({ msg }) => msg === 'the database is available again: writing continues')
  const changes = server.logs().filter(({ msg }) => /^the database is (unavailable|available)/.test(String(msg)))
  t.equal(changes.length, 2, 'one line for each change')
})

t.test('if the outage is longer than the hold window, the response is 503 with an unknown outcome', async (t) => {
  const { network, post, stored } = await startBehindNetwork(t, { OUTAGE_HOLD_SECONDS: '0.5' })
  await stored('first')
  network.drop()
  const sent = await post('sent')
  t.match(sent, { status: 503, retryAfter: '1', json: { code: 'database_unavailable', outcome: 'unknown' } })
  network.heal()
  await stored('sent')
})

t.test('the end of an outage is noticed even if no request is waiting', async (t) => {
  const { server, network, post, stored } = await startBehindNetwork(t, { OUTAGE_HOLD_SECONDS: '0' })
  await stored('first')
  network.drop()
  t.equal((await post('lost')).status, 503)
  await server.log(({ msg }) => msg === 'the database is unavailable: requests wait')
  network.heal()
  await server.log(({ msg }) => msg === 'the database is available again: writing continues')
})

t.test('if COMMIT or its response is lost, the record is created, and stored once', async (t) => {
  const { network, post, shown } = await startBehindNetwork(t)
  await post('first')
  for (const when of ['after', 'half', 'before'] as const) {
    const cut = network.cutCommit(when)
    const response = await post(when)
    await cut
    t.match(response, { status: 201, json: { counts: { created: 1 } } }, when)
    await shown(when)
  }
})

t.test('if the commit of copied lines or its response is lost, each line is created, and stored once', async (t) => {
  const { network, superUrl, openLines } = await startBehindNetwork(t)
  const root = connect(superUrl)
  t.teardown(() => root.destroy())
  const isStored = async (count: number) => {
    const { rows } = await sql<{ count: number }>`SELECT count(*)::integer AS count FROM sluice.records`.execute(root)
    return rows[0]?.count === count
  }
  const { send, end } = openLines()
  let sent = 0
  const store = async (lines: number) => {
    send(Array.from({ length: lines }, (_, n) => ({ source: 's', id: `${sent + n}`, type: 't' })))
    sent += lines
    await until(`${sent} records`, () => isStored(sent))
  }
  for (const when of ['after', 'half', 'before'] as const) {
    // Enough new lines that the next ones are copied.
    await store(10_000)
    const cut = network.cutCommit(when)
    await store(1_000)
    await cut
  }
  t.match(await end(), { counts: { created: sent }, committedLines: sent, rejections: [] })
})

t.test('if COMMIT or its response is lost silently, the locks that it left do not block the retry', async (t) => {
  const { network, post, shown } = await startBehindNetwork(t)
  await post('first')
  for (const when of ['before', 'after'] as const) {
    for (const prefer of ['handling=lenient', 'handling=strict']) {
      const lost = network.cutCommit(when, true)
      const id = `${when}-${prefer}`
      const response = await post(id, { prefer })
      await lost
      t.match(response, { status: 201, json: { counts: { created: 1 } } }, id)
      await shown(id)
    }
  }
})

t.test('if the network fails during a transaction, its locks do not block the retry', async (t) => {
  const { server, network, post } = await startBehindNetwork(t)
  await post('first')
  const lost = network.cutCommit('before', true).then(() => network.drop())
  const response = post('strict', { prefer: 'handling=strict' })
  await lost
  await server.log(({ msg }) => msg === 'the database is unavailable: requests wait')
  network.heal()
  t.match(await response, { status: 201, json: { counts: { created: 1 } } })
})

for (const pooler of [false, true]) {
  const path = pooler ? ' behind a pooler' : ''
  t.test(`a statement that takes long is not interrupted, although its connection is silent${path}`, async (t) => {
    const { network, post, superUrl } = await startBehindNetwork(t, {}, { pooler })
    await post('first')
    const root = connect(superUrl)
    t.teardown(() => root.destroy())
    const lock = await root.startTransaction().execute()
    await sql`LOCK TABLE sluice.records IN SHARE MODE`.execute(lock)
    const response = post('slow')
    // Each check of the connection logs in.
    for (let logins = 0; logins < 2; logins++) await network.loggedIn('sluice-watch')
    const { rows } = await sql`
      SELECT FROM pg_stat_activity
      WHERE application_name = 'sluice-write' AND wait_event_type = 'Lock' AND datname = current_database()`.execute(
      lock,
    )
    t.equal(rows.length, 1, 'the statement was sent once')
    await lock.rollback().execute()
    t.match(await response, { status: 201, json: { counts: { created: 1 } } })
  })
}

/** Runs `serve` with a network between it and its database. */
async function startBehindNetwork(t: Test, env: Record<string, string> = {}, options = {}) {
  const { apiUrl, ownerUrl, superUrl } = await createDatabase(t)
  const { hostname, port } = new URL(apiUrl)
  const network = await openNetwork({ host: hostname, port: Number(port) }, options)
  t.teardown(() => network.close())
  const owner = connect(ownerUrl)
  const key = { name: 'test', scopes: ['ingest', 'read'] as const, sourcePrefixes: [], expiresAt: null }
  const { token } = await issueKey(owner as never, key).finally(() => owner.destroy())

  const url = Object.assign(new URL(apiUrl), { port: String(network.port) }).href
  // A request that should succeed reaches the end of this window only if something hangs.
  const server = await runServer(t, { DATABASE_URL: url, OUTAGE_HOLD_SECONDS: '300', ...env })
  await server.log(({ msg }) => msg === 'ready')
  const send = async (path: string, init: RequestInit = {}, more: Record<string, string> = {}) => {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json', ...more }
    const response = await fetch(`${server.url}/v1/records${path}`, { ...init, headers })
    return { status: response.status, retryAfter: response.headers.get('retry-after'), json: await response.json() }
  }
  /** A request whose body is sent in pieces. */
  const openLines = () => {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/x-ndjson' }
    const posting = request(`${server.url}/v1/records`, { method: 'POST', headers })
    const response = once(posting, 'response').then(([message]) => json(message as IncomingMessage))
    return {
      send: (records: object[]) => posting.write(records.map((record) => `${JSON.stringify(record)}\n`).join('')),
      end: () => {
        posting.end()
        return response
      },
    }
  }
  const post = (id: string, headers: Record<string, string> = {}) =>
    send('', { method: 'POST', body: JSON.stringify({ source: 's', id, type: 'x' }) }, headers)
  const get = (id: string) => send(`/s/${id}`)
  return {
    server,
    network,
    superUrl,
    openLines,
    post,
    get,
    /** Sends a record until it is stored, as clients do: with a short window, a pause of the machine is an outage too. */
    stored: (id: string) => until(`${id} to be stored`, async () => (await post(id)).status < 300),
    /** Reads a record until it is found, because reads have no hold window. */
    shown: (id: string) => until(`${id} to be shown`, async () => (await get(id)).status === 200),
  }
}

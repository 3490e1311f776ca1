import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { turn } from '../helpers/clock.ts'
import { failToServe, interruptTwice, runCommand, runServer } from '../helpers/command.ts'
import { connect } from '../helpers/connect.ts'
import { openClient } from '../helpers/http.ts'
import { untilBlocked } from '../helpers/locks.ts'
import { createDatabase, createEmptyDatabase } from '../helpers/postgres.ts'
import { until } from '../helpers/until.ts'

const BOOTSTRAP_KEY = 'a-key-that-somebody-chose'

// — starting —

t.test('with DATABASE_URL, the embedded database is not loaded', async (t) => {
  const { apiUrl } = await createDatabase(t)
  const logModules = `import { registerHooks } from 'node:module'
    registerHooks({ load: (url, context, next) => (process._rawDebug('LOADED ' + url), next(url, context)) })`
  const flags = ['--import', `data:text/javascript,${encodeURIComponent(logModules)}`]
  const { log, stderr, child, exit } = await runServer(t, { DATABASE_URL: apiUrl }, { flags })
  await log(({ msg }) => msg === 'ready')
  child.kill('SIGINT')
  await exit
  const loaded = stderr()
    .split('\n')
    .filter((line) => line.startsWith('LOADED '))
  t.ok(
    loaded.some((url) => url.endsWith('/src/app.ts')),
    'the hook sees what is loaded',
  )
  t.same(
    loaded.filter((url) => /embedded/.test(url)),
    [],
  )
})

t.test('a port that is in use is reported in one sentence, and the exit code is 1', async (t) => {
  const { apiUrl } = await createDatabase(t)
  const blocker = createServer().listen(0, '127.0.0.1')
  await once(blocker, 'listening')
  t.teardown(() => blocker.close())
  const { port } = blocker.address() as AddressInfo
  const { code, logs, output } = await failToServe(t, { DATABASE_URL: apiUrl, PORT: String(port) })
  t.equal(code, 1)
  t.match(logs.at(-1), {
    level: 'fatal',
    msg: new RegExp(
      `^Port ${port} on 127.0.0.1 is in use, perhaps by another sluice. Stop that one, or choose another port: PORT=${port + 1} npm start.?$`,
    ),
  })
  t.notMatch(output, /\n\s+at |node:net/)
})

t.test('an address of another host is reported in one sentence', async (t) => {
  const { apiUrl } = await createDatabase(t)
  const { code, logs } = await failToServe(t, { DATABASE_URL: apiUrl, HOST: '192.0.2.1' })
  t.equal(code, 1)
  t.match(logs.at(-1), {
    level: 'fatal',
    msg: /^This machine has no address 192\.0\.2\.1\. Set HOST to one that it has/,
  })
})

t.test('serve --migrate creates the schema and the bootstrap key, and does not print the key', async (t) => {
  const { ownerUrl } = await createEmptyDatabase(t)
  const env = { DATABASE_URL: ownerUrl, SLUICE_BOOTSTRAP_KEY: BOOTSTRAP_KEY }
  for (const status of [201, 200]) {
    const server = await runServer(t, env, { args: ['--migrate'] })
    await server.log(({ msg }) => msg === 'ready')
    const response = await store(server.url, { id: '1' })
    t.equal(response.status, status, 'a second start keeps the records and the key')
    t.match(server.stderr(), `curl -sS ${server.url}/v1/records -H "Authorization: Bearer $SLUICE_BOOTSTRAP_KEY"`)
    t.match(server.stderr(), `open ${server.url}/console/ and enter the key: echo "$SLUICE_BOOTSTRAP_KEY"`)
    server.child.kill('SIGINT')
    t.equal(await server.exit, 0)
    t.notMatch(server.stdout() + server.stderr(), BOOTSTRAP_KEY)
  }
})

t.test('a revoked bootstrap key stays revoked after a restart', async (t) => {
  const { ownerUrl } = await createEmptyDatabase(t)
  const env = { DATABASE_URL: ownerUrl, SLUICE_BOOTSTRAP_KEY: BOOTSTRAP_KEY }
  const first = await runServer(t, env, { args: ['--migrate'] })
  first.child.kill('SIGINT')
  await first.exit
  const keys = runCommand(t, ['keys', 'list', '--json'], env)
  await keys.exit
  const [{ id }] = JSON.parse(keys.stdout())
  t.equal(await runCommand(t, ['keys', 'revoke', id], env).exit, 0)
  const second = await runServer(t, env, { args: ['--migrate'] })
  await second.log(({ msg }) => msg === 'ready')
  t.equal((await store(second.url, {})).status, 401)
})

// — the log —

t.test('stdout has only JSON lines, and no output contains a payload, an id, a key or a password', async (t) => {
  const { server, database } = await startServer(t, { LOG_LEVEL: 'debug' })
  await store(server.url, { id: 'the-id', data: { secret: 'the-payload' } })
  await fetch(`${server.url}/v1/records/shop/the-id`, { headers: { authorization: `Bearer ${BOOTSTRAP_KEY}` } })
  await fetch(`${server.url}/nowhere`)
  server.child.kill('SIGINT')
  t.equal(await server.exit, 0)
  t.ok(server.stdout().endsWith('\n'))
  const logs = server.logs()
  t.ok(logs.every(({ level }) => ['debug', 'info', 'warn', 'error'].includes(String(level))))
  const access = logs.filter(({ msg }) => msg === 'request')
  t.match(
    access.map(({ method, route, status }) => [method, route, status]),
    [
      ['POST', '/v1/records', 201],
      ['GET', '/v1/records/:source/:id', 200],
      ['GET', null, 404],
    ],
  )
  t.match(access[0], { requestId: String, durationMs: Number, counts: { created: 1 } })
  const password = new URL(database.apiUrl).password
  for (const secret of ['the-payload', 'the-id', BOOTSTRAP_KEY, password])
    t.notMatch(server.stdout() + server.stderr(), secret)
})

// — stopping —

t.test('after SIGTERM, /readyz is 503 while records are still stored, and then the process exits with 0', async (t) => {
  // The test ends the wait with SIGHUP.
  const wait = `import { syncBuiltinESMExports } from 'node:module'
    import timers from 'node:timers/promises'
    const { setTimeout } = timers
    timers.setTimeout = (ms, ...rest) =>
      ms === 600_000 ? new Promise((resolve) => process.once('SIGHUP', resolve)) : setTimeout(ms, ...rest)
    syncBuiltinESMExports()`
  const flags = ['--import', `data:text/javascript,${encodeURIComponent(wait)}`]
  const { server, ids } = await startServer(t, { DRAIN_SECONDS: '600' }, flags)
  server.child.kill('SIGTERM')
  t.equal(await whenNotReady(server.url), 'draining\n')
  t.equal((await store(server.url, { id: 'while draining' })).status, 201)
  t.equal((await fetch(`${server.url}/healthz`)).status, 200)
  server.child.kill('SIGHUP')
  t.equal(await server.exit, 0)
  t.same(await ids(), ['while draining'])
  t.match(
    server.logs().filter(({ msg }) => msg === 'draining' || msg === 'stopped'),
    [{ msg: 'draining', signal: 'SIGTERM' }, { msg: 'stopped' }],
  )
})

t.test('a record that waits for the database at SIGTERM is stored and answered before the process exits', async (t) => {
  const { server, database, ids } = await startServer(t, { DRAIN_SECONDS: '0' })
  await store(server.url, { id: 'first' })
  const root = connect(database.superUrl)
  t.teardown(() => root.destroy())
  const lock = await root.startTransaction().execute()
  await sql`LOCK TABLE sluice.records IN SHARE MODE`.execute(lock)
  const response = store(server.url, { id: 'in flight' })
  await untilBlocked(lock, 'sluice.records')
  server.child.kill('SIGTERM')
  await server.log(({ msg }) => msg === 'draining')
  await lock.rollback().execute()
  t.equal((await response).status, 201)
  t.equal(await server.exit, 0)
  t.same(await ids(), ['first', 'in flight'])
})

t.test('a second signal ends the process at once', async (t) => {
  const { server } = await startServer(t, { DRAIN_SECONDS: '600' })
  server.child.kill('SIGTERM')
  await whenNotReady(server.url)
  let over = false
  void server.exit.then(() => {
    over = true
  })
  // Shortly after the first signal, a second one counts as the same, passed on by npm. So it is sent until it has an effect.
  while (!over) {
    server.child.kill('SIGTERM')
    await fetch(`${server.url}/healthz`).catch(() => undefined)
  }
  t.equal(await server.exit, 1)
  t.match(server.logs().at(-1), { level: 'warn', msg: /second signal/ })
})

t.test('Ctrl-C under npm sends two signals, and the process still exits with 0', async (t) => {
  const { server } = await startServer(t)
  interruptTwice(server)
  t.equal(await server.exit, 0)
  t.match(server.logs().at(-1), { msg: 'stopped' })
})

// An endless line stream or a stalled reader kept the process from exiting until it was killed, and senders did not learn which
// lines were stored. Streams whose sender was idle at that moment were reset without a response.
t.test('at shutdown, line streams get a report, a stalled reader is cut off, and the process exits', async (t) => {
  const { server, ids } = await startServer(t, { CLOSE_SECONDS: '0.5' })
  const { port } = new URL(server.url)
  const client = () => openClient(t, Number(port), BOOTSTRAP_KEY)
  const lines = { 'content-type': 'application/x-ndjson' }
  const line = (id: string, text = '') => Buffer.from(`{"source":"shop","type":"t","id":"${id}","data":"${text}"}\n`)
  // More than the buffers between the server and a reader can hold.
  const large = Array.from({ length: 5000 }, (_, n) => line(`large ${n}`, `${Math.random()}`.repeat(200)))
  t.equal((await client().send('POST', '/v1/records', lines, Buffer.concat(large))).status, 201)
  const stalled = await client().read('/v1/records', { accept: 'application/x-ndjson' })
  t.equal(stalled.statusCode, 200)
  const idle = client().open('POST', '/v1/records', lines)
  idle.request.write(line('idle'))
  await until('the idle line to be stored', async () => (await ids()).includes('idle'))

  let sent = 0
  async function* endless() {
    for (;;) {
      yield line(`endless ${sent++}`)
      if (sent === 3000) {
        await until('most of the lines to be stored', async () => (await ids()).length > large.length + 2000)
        server.child.kill('SIGINT')
      }
      await turn()
    }
  }
  const response = await client().send('POST', '/v1/records', lines, endless())
  t.match(response, { status: 503, json: { code: 'draining', retryable: true, outcome: 'unknown' } })
  const { counts, committedLines } = response.json
  t.ok(committedLines >= 2000 && committedLines <= sent, `${committedLines} of ${sent} lines`)
  t.equal(counts.created, committedLines)
  t.match(await idle.answer, { status: 503, json: { code: 'draining', counts: { created: 1 }, committedLines: 1 } })
  t.equal(await server.exit, 0)
  await t.rejects(stalled.toArray(), { code: 'ECONNRESET' }, 'the incomplete response is an error')
  t.equal((await ids()).length, large.length + 1 + committedLines)
})

// — helpers —

/** A server that is ready and has a key. */
async function startServer(t: Test, env: Record<string, string> = {}, flags: string[] = []) {
  const database = await createDatabase(t)
  const settings = { DATABASE_URL: database.ownerUrl, SLUICE_BOOTSTRAP_KEY: BOOTSTRAP_KEY, ...env }
  const server = await runServer(t, settings, { args: ['--migrate'], flags })
  await server.log(({ msg }) => msg === 'ready')
  return {
    server,
    database,
    async ids() {
      const db = connect(database.superUrl)
      const { rows } = await sql<{ id: string }>`SELECT id FROM sluice.records ORDER BY id`
        .execute(db)
        .finally(() => db.destroy())
      return rows.map(({ id }) => id)
    },
  }
}

function store(url: string, record: Record<string, unknown>): Promise<Response> {
  return fetch(`${url}/v1/records`, {
    method: 'POST',
    headers: { authorization: `Bearer ${BOOTSTRAP_KEY}`, 'content-type': 'application/json' },
    body: JSON.stringify({ source: 'shop', type: 'order.placed', ...record }),
  })
}

/** Polls /readyz until it returns 503. Returns the text of that response. */
async function whenNotReady(url: string): Promise<string> {
  for (;;) {
    const response = await fetch(`${url}/readyz`)
    const text = await response.text()
    if (response.status === 503) return text
  }
}

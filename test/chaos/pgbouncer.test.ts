import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { connect } from '../../src/postgres/connect.ts'
import { migrate } from '../../src/postgres/migrate.ts'
import { readRows } from '../../src/postgres/read-rows.ts'
import type { UnsupportedServerError } from '../../src/postgres/unsupported.ts'
import { createApp } from '../helpers/app.ts'
import { runCommand } from '../helpers/command.ts'
import { connect as connectAs } from '../helpers/connect.ts'
import { startPgBouncer } from '../helpers/pgbouncer.ts'
import { createDatabase, createEmptyDatabase } from '../helpers/postgres.ts'
import { missing } from '../helpers/skipping.ts'
import { until } from '../helpers/until.ts'

const skip = missing('/usr/sbin/pgbouncer')

const open = (t: Test, url: string, onUnsupported = (_error: Error) => {}) => {
  const options = { name: 'pooled', connections: 2, statementTimeoutMs: 12_000, onError: () => {}, onUnsupported }
  const db = connect({ url, ...options })
  t.teardown(() => db.destroy())
  return db
}

const record = (id: string) => ({ source: 'shop', type: 't', id, data: { n: 1 } })

t.test('through PgBouncer with session pooling, everything works', { skip }, async (t) => {
  const { database } = await startPgBouncer(t, await createEmptyDatabase(t), 'session')
  const owner = open(t, database.ownerUrl)
  t.ok((await migrate(owner)).length > 0, 'migrations run')
  await owner.destroy()

  const { app, key, post, get } = await createApp(t, {}, database)
  // Before, only a few requests can wait.
  await app.ready()
  await until('readiness', () => app.readiness.ready)
  const answers = await Promise.all([...Array(300).keys()].map((n) => post(record(`one-${n}`))))
  t.same(new Set(answers.map(({ status }) => status)), new Set([201]), '300 parallel requests')

  // Rows that are probably new are copied.
  const batch = (name: string) => [...Array(6_000).keys()].map((n) => record(`${name}-${n}`))
  for (const name of ['a', 'b', 'c']) t.match(await post(batch(name)), { json: { counts: { created: 6_000 } } })
  t.match(await post(batch('c')), { status: 200, json: { counts: { duplicate: 6_000 } } })
  t.match(await post([record('one-1'), record('new')], { prefer: 'handling=strict' }), { status: 201 })
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json', 'if-none-match': '*' }
  const consumer = { method: 'PUT', url: '/v1/consumers/billing', headers, payload: '{"offset":"-1"}' } as const
  t.equal((await app.inject(consumer)).statusCode, 201)
  t.match(await get('/v1/consumers'), { json: { consumers: [{ lag: { isExact: false } }] } })
  t.match(await get('/v1/records/shop/new'), { status: 200, json: { data: { n: 1 } } })
  // A list upwards waits for open transactions of other test files.
  const lines = await until('an export of all records', async () => {
    const { text } = await get('/v1/records?order=asc', { accept: 'application/x-ndjson' })
    const ids = text.trim().split('\n')
    return ids.length === 18_301 && ids
  })
  t.equal(new Set(lines.map((line) => JSON.parse(line).id)).size, 18_301)
})

t.test('through PgBouncer, a session has the settings of Sluice, and is cancelled', { skip }, async (t) => {
  const { database } = await startPgBouncer(t, await createDatabase(t), 'session')
  const db = open(t, `${database.apiUrl}?statement_timeout=1`)
  const { rows } = await sql`SELECT current_setting('statement_timeout') AS timeout,
    current_setting('search_path') AS path, current_setting('synchronous_commit') AS commit`.execute(db)
  t.same(rows, [{ timeout: '12s', path: 'pg_catalog', commit: 'on' }])

  const abort = new AbortController()
  const reading = readRows(db, sql`SELECT pg_sleep(50)`, abort.signal, () => {})
  await until('the statement to run', async () => {
    const { rows } = await sql`SELECT FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(50)'
      AND state = 'active' AND datname = current_database()`.execute(db)
    return rows.length === 1
  })
  abort.abort()
  await t.rejects(reading, { name: 'AbortError' })
})

t.test('a restart of PgBouncer under load fails no request that stores records', { skip }, async (t) => {
  const { database, restart } = await startPgBouncer(t, await createDatabase(t), 'session')
  const { post } = await createApp(t, {}, database)
  let isOver = false
  const statuses: number[] = []
  const sender = async (name: string) => {
    for (let n = 0; !isOver; n++) statuses.push((await post(record(`${name}-${n}`))).status)
  }
  const senders = ['a', 'b', 'c', 'd'].map(sender)
  for (let n = 0; n < 3; n++) {
    const before = statuses.length
    await until('some requests', () => statuses.length > before + 50)
    await restart()
  }
  const before = statuses.length
  await until('requests after the last restart', () => statuses.length > before + 50)
  isOver = true
  await Promise.all(senders)
  t.same(new Set(statuses), new Set([201]))
})

for (const mode of ['transaction', 'statement']) {
  t.test(`${mode} pooling is refused, and leaves no settings behind`, { skip }, async (t) => {
    const { database } = await startPgBouncer(t, await createDatabase(t), mode)
    const errors: Error[] = []
    await t.rejects(sql`SELECT 1`.execute(open(t, database.apiUrl, (error) => errors.push(error))), {
      name: 'NotConnectedError',
      message: /^The pooler in DATABASE_URL shares connections .* Set pool_mode = session for this database/,
    })
    t.match(errors, [{ name: 'UnsupportedServerError' }] as Partial<UnsupportedServerError>[])
    const other = connectAs(database.apiUrl)
    t.teardown(() => other.destroy())
    const { rows } = await sql<{ path: string }>`SELECT current_setting('search_path') AS path`.execute(other)
    t.match(rows, [{ path: /public/ }])
  })
}

// Other clients take the connection that the check expects to see again.
t.test('transaction pooling is found while other clients are busy', { skip }, async (t) => {
  const { database } = await startPgBouncer(t, await createDatabase(t), 'transaction')
  let isOver = false
  const busy = connectAs(database.apiUrl, 4)
  t.teardown(() => busy.destroy())
  const others = [1, 2, 3, 4].map(async () => {
    while (!isOver) await sql`SELECT 1`.execute(busy)
  })
  for (let n = 0; n < 10; n++) {
    const db = open(t, database.apiUrl)
    await t.rejects(sql`SELECT 1`.execute(db), /^The pooler in DATABASE_URL/)
  }
  isOver = true
  await Promise.all(others)
})

t.test('PgBouncer that is restarted with transaction pooling is found as well', { skip }, async (t) => {
  const { database, restart } = await startPgBouncer(t, await createDatabase(t), 'session')
  const db = open(t, database.apiUrl, () => t.fail('the process must not end: it has worked before'))
  await sql`SELECT 1`.execute(db)
  await restart('transaction')
  await until('the refusal', () =>
    sql`SELECT 1`.execute(db).then(
      () => false,
      (error) => /^The pooler in DATABASE_URL/.test(error.message),
    ),
  )
})

t.test('serve ends with the reason if DATABASE_URL is a transaction pool', { skip }, async (t) => {
  const { database } = await startPgBouncer(t, await createDatabase(t), 'transaction')
  for (const args of [['serve'], ['serve', '--migrate']]) {
    const server = runCommand(t, args, { DATABASE_URL: database.ownerUrl, PORT: '0', METRICS_PORT: '0' })
    t.equal(await server.exit, 1)
    const { msg } = await server.log(({ level }) => level === 'fatal')
    t.match(msg, /^The pooler in DATABASE_URL .* pool_mode = session/)
  }
})

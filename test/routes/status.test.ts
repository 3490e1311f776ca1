import { sql } from 'kysely'
import t from 'tap'
import { openNetwork } from '../../scripts/durability/proxy.ts'
import { VERSION } from '../../src/lib/version.ts'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { CREATE } from '../helpers/consumers-api.ts'
import { createSafeDatabase } from '../helpers/own-server.ts'
import { until } from '../helpers/until.ts'

const database = await createSafeDatabase(t)

t.test('a new installation is well, and says so', async (t) => {
  const server = await createApp(t, {}, database)
  await server.app.ready()
  const { status, json, headers } = await until('everything to be known', async () => {
    const answer = await server.get('/v1/status')
    const { database, feed, statistics } = answer.json
    return (
      !Object.values({ ...answer.json, ...database, ...feed, ...statistics, storage: 0, backfill: 0 }).includes(null) &&
      answer
    )
  })
  t.equal(status, 200)
  t.equal(headers['cache-control'], 'no-store')
  const { at, instance, instances, database: found, statistics, ...others } = json
  t.same(others, {
    health: 'ok',
    findings: [],
    storage: null,
    feed: { heldSeconds: 0 },
    consumers: [],
    consumerCount: 0,
    jobs: [],
  })
  t.match(instance, { version: VERSION, ready: true, overloaded: false, waitingRequests: 0, oldestWaitingSeconds: 0 })
  t.same(
    instances.map(({ name, version }: Record<string, string>) => [name, version]),
    [[instance.name, VERSION]],
  )
  t.match(found, { available: true, outageSeconds: 0 })
  t.same(found.unsafeSettings, [])
  t.match(statistics, { backfill: null })
  t.ok(Date.parse(at) >= Date.parse(instance.startedAt))
})

t.test('all instances are listed with their versions', async (t) => {
  const server = await createApp(t, {}, database)
  await createApp(t, {}, database)
  const { instances } = await until('both', async () => {
    const { json } = await server.get('/v1/status')
    return json.instances?.length === 2 && json
  })
  t.same(
    instances.map(({ version }: { version: string }) => version),
    [VERSION, VERSION],
  )
})

t.test('storage, consumers, jobs and statistics are in it', async (t) => {
  const budget = { STORAGE_BUDGET: '10GB' }
  const { app } = await createApp(t, budget, database)
  await app.ready()
  const used = await until('the first measurement', () => app.storage.usedBytes)
  const root = connect(database.superUrl)
  t.teardown(() => root.destroy())
  const perHour = 20e6
  await sql`
    INSERT INTO sluice.storage_history (hour, used_bytes)
    SELECT date_trunc('hour', now()) - make_interval(hours => hour), ${used}::float8 - hour * ${perHour}::float8
    FROM generate_series(0, 100) AS hour
    ON CONFLICT (hour) DO UPDATE SET used_bytes = excluded.used_bytes`.execute(root)
  await sql`
    INSERT INTO sluice.jobs (job, finished_at, succeeded, succeeded_at, seconds, figures, totals)
    VALUES ('restore_drill', now(), false, now() - interval '1 day', 1, '{}', '{}')`.execute(root)

  const server = await createApp(t, budget, database)
  const { headers } = await server.app.inject({
    method: 'PUT',
    url: '/v1/consumers/slow',
    headers: { authorization: `Bearer ${server.key}`, 'content-type': 'application/json', ...CREATE },
    payload: '{"offset":"-1"}',
  })
  t.ok(headers.etag, 'the consumer exists')
  for (const id of ['1', '2']) await server.post({ source: 's', type: 't', id })
  const { json } = await until('everything to be known', async () => {
    const answer = await server.get('/v1/status')
    const { storage, statistics, consumers } = answer.json
    return storage.usedBytes !== null && statistics.lagSeconds !== null && consumers[0].records === 2 && answer
  })
  t.match(json, {
    health: 'critical',
    findings: [{ level: 'critical', code: 'restore_drill_failed' }],
    storage: { budgetBytes: 1e10, full: false },
    statistics: { backfill: null },
    consumers: [{ name: 'slow', records: 2, overtakenAt: null }],
    jobs: [{ job: 'restore_drill', succeeded: false }],
  })
  const hours = (Date.parse(json.storage.fullAt) - Date.now()) / 3_600_000
  const expected = (9e9 - used) / perHour
  t.ok(Math.abs(hours / expected - 1) < 0.05, `full in ${hours} hours instead of ${expected}`)
})

t.test('an instance adds the size of the database to its history, once per hour', async (t) => {
  const root = connect(database.superUrl)
  t.teardown(() => root.destroy())
  await sql`DELETE FROM sluice.storage_history`.execute(root)
  const { app } = await createApp(t, { STORAGE_BUDGET: '10GB' }, database)
  await app.ready()
  const { rows } = await until('a sample', async () => {
    const found = await sql<{ isNow: boolean; used: number }>`
      SELECT now() - hour < interval '1 hour 1 minute' AND hour = date_trunc('hour', hour, 'UTC') AS "isNow",
             used_bytes::float8 AS used
      FROM sluice.storage_history`.execute(root)
    return found.rows.length > 0 && found
  })
  t.match(rows[0], { isNow: true })
  t.ok(Number(rows[0]?.used) > 1e6)
})

t.test('if the size cannot be added to the history, the log says so', async (t) => {
  const root = connect(database.superUrl)
  t.teardown(() => root.destroy())
  await sql`DELETE FROM sluice.storage_history`.execute(root)
  await sql`REVOKE INSERT ON sluice.storage_history FROM sluice_api`.execute(root)
  const { app, logs } = await createApp(t, { STORAGE_BUDGET: '10GB' }, database)
  await app.ready()
  const line = await until('the warning', () => logs.find(({ msg }) => /added to its history/.test(String(msg))))
  t.match(line, { level: 'warn', err: { code: '42501' } })
  await sql`GRANT INSERT ON sluice.storage_history TO sluice_api`.execute(root)
})

t.test('at most 100 consumers are listed, and the memory of the response is reserved', async (t) => {
  const root = connect(database.superUrl)
  t.teardown(() => root.destroy())
  await sql`
    INSERT INTO sluice.consumers (name, epoch, xid, n)
    SELECT repeat('n', 120) || n, 0, '0', 0 FROM generate_series(1, 150) AS n`.execute(root)
  t.teardown(() => sql`DELETE FROM sluice.consumers`.execute(root))
  const server = await createApp(t, {}, database)
  let reserved = 0
  server.app.addHook('onSend', async () => {
    reserved = server.app.responseMemory.used
  })
  const { json, text } = await until('the consumers', async () => {
    const answer = await server.get('/v1/status')
    return answer.json.consumers !== null && answer
  })
  t.equal(json.consumers.length, 100)
  t.ok(json.consumerCount >= 150)
  t.ok(reserved >= text.length && text.length > 15_000, `${reserved} of ${text.length} bytes`)
})

t.test('while the database is unavailable, it still responds, and says so', async (t) => {
  const root = connect(database.superUrl)
  t.teardown(() => root.destroy())
  await sql`DELETE FROM sluice.jobs`.execute(root)
  const { hostname: host, port } = new URL(database.apiUrl)
  const network = await openNetwork({ host, port: Number(port) })
  t.teardown(() => network.close())
  const url = new URL(database.apiUrl)
  url.host = `127.0.0.1:${network.port}`
  const server = await createApp(t, { DATABASE_URL: url.href }, database)
  await server.app.ready()
  await server.post({ source: 's', type: 't', id: 'before' })
  await until('the instances', async () => (await server.get('/v1/status')).json.instances !== null)
  network.drop()
  const waiting = server.post({ source: 's', type: 't', id: 'during' })
  const { json } = await until('the outage', async () => {
    const answer = await server.get('/v1/status')
    return answer.json.findings.some(({ code }: { code: string }) => code === 'database_unavailable') && answer
  })
  t.match(json, {
    health: 'critical',
    findings: [{ code: 'database_unavailable' }],
    instance: { waitingRequests: 1 },
    database: { available: false },
  })
  await until('the instances to be unknown', async () => (await server.get('/v1/status')).json.instances === null)
  network.heal()
  t.equal((await waiting).status, 201)
  await until('the end of the outage', async () => (await server.get('/v1/status')).json.health === 'ok')
})

t.test('it needs a key with the scope read, and without source prefixes', async (t) => {
  const server = await createApp(t, {}, database)
  await server.app.ready()
  const as = async (key: Record<string, unknown>) => {
    const { token } = await server.makeKey(key as never)
    return server.get('/v1/status', { authorization: `Bearer ${token}` })
  }
  t.match(await as({ scopes: ['ingest'] }), { status: 403, json: { code: 'forbidden' } })
  t.match(await as({ scopes: ['read'], sourcePrefixes: ['shop'] }), {
    status: 403,
    json: { detail: /limited to source prefixes\. To see the status, use a key without source prefixes/ },
  })
  t.equal((await as({ scopes: ['read'] })).status, 200)
})

import { once } from 'node:events'
import { connect as connectTo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { sql } from 'kysely'
import { Gauge } from 'prom-client'
import t from 'tap'
import { recordJobRun } from '../../src/data/jobs.ts'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { holdStatements } from '../helpers/held.ts'
import { openClient } from '../helpers/http.ts'
import { hold } from '../helpers/load.ts'
import { isProblem } from '../helpers/problem.ts'
import { scrape } from '../helpers/scrape.ts'
import { exchange, head, listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

const NDJSON = { 'content-type': 'application/x-ndjson' }
const record = (id: string | number, more: object = {}) => ({ source: 's', type: 't', id: String(id), ...more })

// — the endpoint —

t.test('a separate server serves GET /metrics, and nothing else', async (t) => {
  const { app, get } = await createApp(t)
  const answer = await app.metricsServer.inject('/metrics')
  t.equal(answer.statusCode, 200)
  t.match(answer.headers['content-type'], /^text\/plain; version=0\.0\.4/)

  const ask = async (method: 'GET' | 'POST', url: string) => {
    const { statusCode, headers, body } = await app.metricsServer.inject({ method, url })
    return { status: statusCode, headers, json: JSON.parse(body) }
  }
  isProblem(t, await ask('GET', '/'), 'route_not_found')
  isProblem(t, await ask('GET', '/v1/records'), 'route_not_found')
  isProblem(t, await ask('POST', '/metrics'), 'method_not_allowed')
  isProblem(t, await get('/metrics'), 'route_not_found', { name: 'on the port of the API' })
})

t.test('two servers in one process count separately', async (t) => {
  const [one, other] = [await createApp(t), await createApp(t)]
  for (const { app } of [one, other])
    t.match(await app.metrics.metrics(), /^process_cpu_seconds_total /m, 'each has the metrics of the process')
  await one.post(record(1))
  new Gauge({ name: 'only_one_has_it', help: 'h', registers: [one.app.metrics] })
  t.notMatch(await other.app.metrics.metrics(), /only_one_has_it/)
  t.equal((await scrape(one.app)).value('sluice_records_total', { outcome: 'created' }), 1)
  t.equal((await scrape(other.app)).value('sluice_records_total', { outcome: 'created' }), 0)
})

t.test('a running scrape does not keep the server from closing', async (t) => {
  const { app } = await createApp(t)
  const slow = hold()
  new Gauge({ name: 'slow', help: 'Slow.', registers: [app.metrics], collect: () => slow.arrive() })
  const socket = connectTo(await listen(app.metricsServer), '127.0.0.1')
  let received = ''
  socket.on('data', (text) => {
    received += text
  })
  socket.write(head('GET', '/metrics'))
  await slow.arrived
  const closed = app.close()
  // After a response, the connection would stay open for a scrape that never comes.
  await once(socket, 'close')
  slow.release()
  await closed
  t.equal(received, '')
})

// — requests —

t.test('requests are counted and timed by method, route template and status', async (t) => {
  const { app, post, get } = await createApp(t)
  const count = async (method: string, route: string, status: number) => {
    const labels = { method, route, status: String(status) }
    const { value } = await scrape(app)
    const all = value('sluice_http_request_duration_seconds_count', labels)
    t.equal(value('sluice_http_request_duration_seconds_bucket', { ...labels, le: '+Inf' }), all)
    const seconds = value('sluice_http_request_duration_seconds_sum', labels) ?? 0
    t.ok(seconds >= 0 && seconds < 60, `${seconds} s`)
    return all
  }
  for (const id of [1, 2, 2]) await post(record(id))
  await post('{')
  await get('/v1/records/s/1')
  await get('/v1/records/s/none')
  await get('/nothing')
  await get('/v1/records/%zz/1')
  await app.inject({ method: 'DELETE', url: '/v1/records' })
  t.equal(await count('POST', '/v1/records', 201), 2)
  t.equal(await count('POST', '/v1/records', 200), 1)
  t.equal(await count('POST', '/v1/records', 400), 1)
  t.equal(await count('GET', '/v1/records/:source/:id', 200), 1)
  t.equal(await count('GET', '/v1/records/:source/:id', 404), 1)
  t.equal(await count('DELETE', '/v1/records', 405), 1)
  t.equal(await count('GET', 'none', 404), 1)
  t.equal(await count('GET', 'none', 400), 1, 'an invalid path, for which no hook runs')
  t.equal(await count('GET', '/metrics', 200), undefined, 'scrapes do not count')
})

t.test('whatever clients send, the number of series is bounded, and no label contains their data', async (t) => {
  const { app, post, get } = await createApp(t)
  const port = await listen(app)
  const MARK = 'tr0ub4dor'
  const before = await scrape(app)
  const METHODS = ['GET', 'POST', 'PUT', 'DELETE', 'PROPFIND', 'PURGE', 'M-SEARCH', 'MKCOL', 'SUBSCRIBE', 'QUERY']
  for (let n = 0; n < 12; n++) {
    const mark = `${MARK}${n}`
    for (const method of METHODS) {
      await exchange(port, head(method, `/${mark}/${mark}?${mark}`, { 'Content-Length': '0', Connection: 'close' }))
    }
    await exchange(port, head(`${MARK.toUpperCase()}${n}`, '/v1/records'))
    await post(record(mark, { source: mark, type: mark, subject: mark }), { 'x-request-id': mark, 'user-agent': mark })
    await post(`${JSON.stringify(record(mark, { type: mark }))}\n`, NDJSON)
    await get(`/v1/records/${mark}/${mark}`)
    await get(`/docs/static/${mark}.js`)
    await get('/v1/records', { authorization: `Bearer ${mark}` })
  }
  const after = await scrape(app)
  t.notMatch(after.text.toLowerCase(), MARK)
  // For each bucket, the sum and the count: unknown paths with 10 methods, and the other requests, by status.
  t.ok(after.samples.length - before.samples.length < 16 * 20, `${after.samples.length - before.samples.length} more`)
  const methods = new Set(after.samples.flatMap(({ labels }) => labels.method ?? []))
  t.same([...methods].sort(), ['DELETE', 'GET', 'POST', 'PUT', 'other'])
})

// — records —

t.test('records of requests and of lines are counted by outcome, even if none is stored', async (t) => {
  const { app, post } = await createApp(t)
  const lines = (...records: object[]) => records.map((one) => `${JSON.stringify(one)}\n`).join('')
  const STRICT = { prefer: 'handling=strict' }
  const added = async (work: () => Promise<unknown>) => {
    const counts = async () => {
      const { value } = await scrape(app)
      return ['created', 'duplicate', 'conflict', 'rejected'].map((outcome) =>
        value('sluice_records_total', { outcome }),
      )
    }
    const before = await counts()
    await work()
    return (await counts()).map((count, at) => (count as number) - (before[at] as number))
  }
  t.same(await added(() => post(record(1))), [1, 0, 0, 0])
  t.same(await added(() => post(record(1))), [0, 1, 0, 0])
  t.same(await added(() => post(record(1, { data: 2 }))), [0, 0, 1, 0])
  t.same(await added(() => post({ type: 't' })), [0, 0, 0, 1])
  t.same(await added(() => post([record(1), record(2), record(1, { data: 2 }), 5])), [1, 1, 1, 1])
  t.same(await added(() => post([record(3), record(1, { data: 2 })], STRICT)), [0, 0, 1, 0], 'record 3 is not stored')
  t.same(await added(() => post([record(3), 5], STRICT)), [0, 0, 0, 1])
  t.same(await added(() => post('[')), [0, 0, 0, 0])
  t.same(await added(() => post(lines(record(4), record(4), record(1, { data: 2 }), {}), NDJSON)), [1, 1, 1, 1])
  t.same(await added(() => post(lines({}, {}), NDJSON)), [0, 0, 0, 2], 'no line was stored')
})

t.test('lines are counted while their stream is still open', async (t) => {
  const { app, key } = await createApp(t)
  const { request, answer } = openClient(t, await listen(app), key).open('POST', '/v1/records', NDJSON)
  const lines = Array.from({ length: 1500 }, (_, n) => `${JSON.stringify(record(n))}\n`).join('')
  request.write(lines)
  const created = async () => (await scrape(app)).value('sluice_records_total', { outcome: 'created' })
  await until('lines to be counted', async () => ((await created()) ?? 0) >= 1000)
  request.end()
  t.equal((await answer).status, 201)
  t.equal(await created(), 1500)
})

// — writing —

t.test('the metrics have the records, requests, bytes and duration of a flush', async (t) => {
  const { app, post } = await createApp(t)
  const body = JSON.stringify([record(1), record(2), record(3)])
  await post(body)
  const { value } = await scrape(app)
  for (const [name, sum] of Object.entries({ rows: 3, requests: 1, bytes: body.length })) {
    t.equal(value(`sluice_flush_${name}_count`), 1)
    t.equal(value(`sluice_flush_${name}_sum`), sum, name)
  }
  t.equal(value('sluice_flush_duration_seconds_count'), 1)
  t.ok((value('sluice_flush_duration_seconds_sum') as number) > 0)
})

t.test('the metrics have waiting bytes and requests, the age of the oldest, flushes and connections', async (t) => {
  const { app, post, database } = await createApp(t, {
    FLUSH_CONCURRENCY: '1',
    QUEUE_MAX_BYTES: '16777216',
    READ_CONNECTIONS: '4',
  })
  const root = connect(database.superUrl)
  t.teardown(() => root.destroy())
  const lock = await root.startTransaction().execute()
  await sql`LOCK TABLE sluice.records IN SHARE MODE`.execute(lock)
  const bodies = [record(1), record(2)].map((one) => JSON.stringify(one))
  const answers = [post(bodies[0])]
  await until('a flush', async () => (await scrape(app)).value('sluice_flushes', { state: 'writing' }) === 1)
  answers.push(post(bodies[1]))
  const { value } = await until('both', async () => {
    const now = await scrape(app)
    return now.value('sluice_waiting_requests') === 2 && now
  })
  t.equal(value('sluice_queue_bytes'), app.ingestMemory.used)
  t.ok(app.ingestMemory.used > bodies.join('').length, 'including what a request holds in addition to its body')
  t.equal(value('sluice_queue_max_bytes'), 16777216)
  t.equal(value('sluice_pool_connections', { pool: 'write', state: 'used' }), 1)
  t.equal(value('sluice_pool_max_connections', { pool: 'list' }), 4)
  const age = value('sluice_oldest_waiting_seconds') as number
  t.ok(age > 0 && age < 60, `${age} s`)
  t.ok(((await scrape(app)).value('sluice_oldest_waiting_seconds') as number) > age, 'it grows')

  await lock.rollback().execute()
  await Promise.all(answers)
  const after = await scrape(app)
  for (const name of ['sluice_waiting_requests', 'sluice_oldest_waiting_seconds', 'sluice_queue_bytes'])
    t.equal(after.value(name), 0, name)
  t.equal(after.value('sluice_pool_connections', { pool: 'write', state: 'idle' }), 1)
})

t.test('single records and lists have separate pools, and a read that waits for its turn is counted', async (t) => {
  const { app, post, get, database } = await createApp(t, { READ_CONNECTIONS: '1' })
  await post(record(1))
  const held = await holdStatements(t, database, '@>')
  const scan = get('/v1/records?data=1')
  await held.count(1)
  const waiting = get('/v1/records')
  const { value } = await until('a read to wait', async () => {
    const now = await scrape(app)
    return now.value('sluice_pool_waiting', { pool: 'list' }) === 1 && now
  })
  t.equal(value('sluice_pool_waiting', { pool: 'read' }), 0)
  t.equal(value('sluice_pool_connections', { pool: 'list', state: 'used' }), 1)
  t.equal(value('sluice_pool_max_connections', { pool: 'list' }), 1)
  t.equal(value('sluice_pool_max_connections', { pool: 'read' }), 5)
  await held.release()
  t.same([(await scan).status, (await waiting).status], [200, 200])
})

t.test('the metrics have an outage during and after it, and keep the figures of earlier jobs', async (t) => {
  const { app, post, database } = await createApp(t, { OUTAGE_HOLD_SECONDS: '3600' })
  const { superUrl, ownerUrl, name } = database
  const owner = connect(ownerUrl)
  const run = { succeeded: true, seconds: 1, totals: {} }
  await recordJobRun(owner as never, { ...run, job: 'backup', figures: { bytes: 4096, kept: 7 } })
  await owner.destroy()
  await post(record(1))
  const before = await scrapeUntil(app, ({ value }) => value('sluice_backup_size_bytes') === 4096)
  t.equal(before.value('sluice_outage'), 0)
  // Not 0 on a busy machine: a login that takes longer than a second is a short outage.
  const outages = before.value('sluice_outages_total') as number

  // Connected to another database, because this one must refuse connections.
  const root = connect(Object.assign(new URL(superUrl), { pathname: '/postgres' }).href)
  t.teardown(() => root.destroy())
  await sql`ALTER DATABASE ${sql.id(name)} ALLOW_CONNECTIONS false`.execute(root)
  await sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ${name}`.execute(root)
  const answer = post(record(2))
  const during = await until('a flush to hold', async () => {
    const now = await scrape(app)
    return now.value('sluice_outage') === 1 && now.value('sluice_flushes', { state: 'holding' }) === 1 && now
  })
  t.equal(during.value('sluice_outages_total'), outages + 1)
  t.ok((during.value('sluice_flush_retries_total') as number) >= 1)
  t.ok((during.value('sluice_outage_seconds_total') as number) > 0)
  t.equal(during.value('sluice_backup_size_bytes'), 4096)
  t.equal(during.value('sluice_ready'), 1, 'an outage does not change the readiness')
  await until(
    'the copy of the keys to age',
    async () => ((await scrape(app)).value('sluice_keys_age_seconds') ?? 0) > 3,
  )

  await sql`ALTER DATABASE ${sql.id(name)} ALLOW_CONNECTIONS true`.execute(root)
  t.equal((await answer).status, 201)
  const after = await scrape(app)
  t.equal(after.value('sluice_outage'), 0)
  t.equal(after.value('sluice_outages_total'), outages + 1)
  const seconds = after.value('sluice_outage_seconds_total') as number
  t.ok(seconds >= (during.value('sluice_outage_seconds_total') as number))
  t.equal((await scrape(app)).value('sluice_outage_seconds_total'), seconds, 'it grows no longer')
})

// — jobs, storage, exports, process —

t.test('the metrics have the last run, the last success and the figures of jobs that have run', async (t) => {
  const { app, database } = await createApp(t)
  const db = connect(database.ownerUrl) as never
  t.teardown(() => (db as ReturnType<typeof connect>).destroy())
  const jobs = (samples: { name: string }[]) =>
    samples.filter(({ name }) => /^sluice_(job|backup|restore_drill|retention)_/.test(name))
  t.same(jobs((await scrape(app)).samples), [], 'no samples before the first run')

  const begin = Math.floor(Date.now() / 1000)
  const run = { succeeded: true, seconds: 2.5, figures: {}, totals: {} }
  await recordJobRun(db, { ...run, job: 'backup', figures: { bytes: 1000, kept: 3 } })
  await recordJobRun(db, { ...run, job: 'backup', succeeded: false })
  await recordJobRun(db, { ...run, job: 'restore_drill', figures: { backup_age_seconds: 60, records: 5 } })
  for (let n = 0; n < 2; n++)
    await recordJobRun(db, { ...run, job: 'retention', totals: { removed_records: 10, removed_bytes: 900 } })
  const { value } = await scrapeUntil(app, ({ value }) => value('sluice_retention_removed_records_total') === 20)
  const now = Date.now() / 1000
  const near = (time = 0) => t.ok(time >= begin && time <= now, `${time} is seconds since 1970`)
  near(value('sluice_job_last_run_timestamp_seconds', { job_name: 'backup' }))
  near(value('sluice_job_last_success_timestamp_seconds', { job_name: 'backup' }))
  t.equal(value('sluice_job_last_run_succeeded', { job_name: 'backup' }), 0)
  t.equal(value('sluice_job_last_run_succeeded', { job_name: 'restore_drill' }), 1)
  t.equal(value('sluice_job_last_run_duration_seconds', { job_name: 'retention' }), 2.5)
  t.equal(value('sluice_backup_size_bytes'), undefined, 'the last run made no backup')
  t.equal(value('sluice_restore_drill_backup_age_seconds'), 60)
  t.equal(value('sluice_restore_drill_records'), 5)
  t.equal(value('sluice_retention_removed_bytes_total'), 1800)
})

t.test('the metrics have the storage budget, if there is one, and the number of shed requests', async (t) => {
  const without = await createApp(t)
  const none = await scrape(without.app)
  t.same(
    none.samples.filter(({ name }) => name.startsWith('sluice_storage_')),
    [],
  )
  const { app, post } = await createApp(t, { STORAGE_BUDGET: '1024', SHED_INGEST_SECONDS: '0.01' })
  await app.ready()
  await until('a measurement', () => app.storage.state === 'full')
  const { value } = await scrape(app)
  t.equal(value('sluice_storage_budget_bytes'), 1024)
  t.equal(value('sluice_storage_used_bytes'), app.storage.usedBytes)
  t.equal(value('sluice_storage_full'), 1)
  await until('the event loop to be delayed', async () => {
    const end = performance.now() + 100
    while (performance.now() < end);
    return (await post(record(1))).status === 503
  })
  t.equal((await scrape(app)).value('sluice_shed_requests_total', { kind: 'ingest' }), app.shedding.shed.ingest)
  t.ok(app.shedding.shed.ingest > 0)
})

t.test('an export is counted while it is sent', async (t) => {
  const { app, key, post } = await createApp(t)
  for (let n = 0; n < 8; n++) await post([record(n, { data: 'x'.repeat(900_000) })])
  const exports = async () => (await scrape(app)).value('sluice_exports')
  t.equal(await exports(), 0)
  const answer = await openClient(t, await listen(app), key).read('/v1/records', { accept: 'application/x-ndjson' })
  t.equal(await exports(), 1, 'nobody has read it, and it is too large for the buffers on the way')
  answer.resume()
  await once(answer, 'end')
  await until('the export to end', async () => (await exports()) === 0)

  const abandoned = await openClient(t, await listen(app), key).read('/v1/records', { accept: 'application/x-ndjson' })
  t.equal(await exports(), 1)
  abandoned.destroy()
  await until('the export to end when its reader disconnects', async () => (await exports()) === 0)
})

t.test('the metrics have the build, the process, the event loop and the readiness', async (t) => {
  const { app } = await createApp(t)
  await app.ready()
  const { samples, value } = await scrape(app)
  t.match(samples.find(({ name }) => name === 'sluice_build_info')?.labels, {
    version: /^\d/,
    node: process.versions.node,
  })
  for (const name of ['process_resident_memory_bytes', 'process_cpu_seconds_total', 'nodejs_eventloop_lag_p99_seconds'])
    t.ok((value(name) as number) > 0, name)
  for (const state of ['active', 'idle']) t.ok((value('nodejs_eventloop_time_seconds_total', { state }) as number) > 0)
  await whenReady(app)
  t.equal((await scrape(app)).value('sluice_ready'), 1)
  app.drain()
  t.equal((await scrape(app)).value('sluice_ready'), 0)
})

const whenReady = (app: FastifyInstance) => until('/readyz', () => app.readiness.ready)

/** A scrape waits for the figures of jobs only half a second, which a busy machine exceeds. */
const scrapeUntil = (app: FastifyInstance, is: (now: Awaited<ReturnType<typeof scrape>>) => boolean) =>
  until('the figures of jobs', async () => {
    const now = await scrape(app)
    return is(now) && now
  })

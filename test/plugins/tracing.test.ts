import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import net from 'node:net'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { type Command, runServer } from '../helpers/command.ts'
import { connect } from '../helpers/connect.ts'
import { untilBlocked } from '../helpers/locks.ts'
import { type SentSpan, startCollector } from '../helpers/otlp.ts'
import { createDatabase, type TestDatabase } from '../helpers/postgres.ts'
import { head } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

const KEY = 'a-key-that-somebody-chose'
const [TRACE, PARENT] = ['a'.repeat(32), 'b'.repeat(16)]
const AT_ONCE = { OTEL_BSP_SCHEDULE_DELAY: '10' }

const collector = await startCollector(t)
const { server, post, get, database, logOf } = await startTraced(t, {
  OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
  // All requests that wait during one flush are in the next one.
  FLUSH_CONCURRENCY: '1',
  ...AT_ONCE,
})

// — ingestion —

t.test("a client's trace continues: request, flush, statement, each a child of the one before", async (t) => {
  const answer = await post({ id: 'one' }, { traceparent: `00-${TRACE}-${PARENT}-01` })
  t.equal(answer.status, 201)
  const insert = await collector.span('of the insert', ({ traceId, name }) => traceId === TRACE && /^INSERT/.test(name))
  const flush = await collector.span('of the flush', ({ spanId }) => spanId === insert.parentId)
  const request = await collector.span('of the request', ({ spanId }) => spanId === flush.parentId)
  t.equal(request.parentId, PARENT)
  t.ok([insert, flush, request].every(({ traceId }) => traceId === TRACE))

  t.match(request, { name: 'POST /v1/records', kind: 'SERVER', failed: false, links: [] })
  const { hostname, port } = new URL(server.url)
  t.strictSame(request.attributes, {
    'http.request.method': 'POST',
    'http.route': '/v1/records',
    'http.response.status_code': 201,
    'url.path': '/v1/records',
    'url.scheme': 'http',
    'network.protocol.version': '1.1',
    'server.address': hostname,
    'server.port': Number(port),
  })
  t.match(flush, { name: 'flush', kind: 'INTERNAL', links: [{ traceId: TRACE, spanId: request.spanId }] })
  t.strictSame(flush.attributes, { 'sluice.flush.requests': 1, 'sluice.flush.rows': 1 })
  const url = new URL(database.apiUrl)
  t.match(insert, { name: 'INSERT sluice.records', kind: 'CLIENT', failed: false })
  t.strictSame(insert.attributes, {
    'db.system.name': 'postgresql',
    'db.namespace': url.pathname.slice(1),
    'db.operation.name': 'INSERT',
    'db.collection.name': 'sluice.records',
    'server.address': url.hostname,
    'server.port': Number(url.port),
  })
  t.ok(insert.start < insert.end && flush.start < flush.end)

  t.match(await logOf(answer), { traceId: TRACE, spanId: request.spanId })
  t.equal((await read('one')).traceparent, `00-${TRACE}-${PARENT}-01`, "the record has its producer's span")
})

t.test('without a trace from the client, a new one begins, and the record and the log have its ids', async (t) => {
  const answer = await post({ id: 'alone' })
  const { traceId, spanId } = (await logOf(answer)) as Record<string, string>
  const request = await collector.span('of the request', (span) => span.spanId === spanId)
  t.match(request, { traceId, parentId: '', name: 'POST /v1/records' })
  t.equal((await read('alone')).traceparent, `00-${traceId}-${spanId}-01`)
})

t.test('a flush is linked to all of its requests, and they are linked to it', async (t) => {
  const root = connect(database.superUrl)
  t.teardown(() => root.destroy())
  const before = collector.spans.length
  // The flush of the first request is blocked, so that requests that arrive meanwhile share the next one.
  const lock = await root.startTransaction().execute()
  await sql`LOCK TABLE sluice.records IN SHARE MODE`.execute(lock)
  const names = Array.from({ length: 200 }, (_, n) => `many-${n}`)
  const sent = names.map((id) => {
    const body = JSON.stringify({ source: 'shop', type: 'order.placed', id })
    const headers = { authorization: `Bearer ${KEY}`, 'content-type': 'application/json', 'x-request-id': id }
    return `${head('POST', '/v1/records', { ...headers, 'content-length': String(body.length) })}${body}`
  })
  const sockets = await Promise.all(
    Array.from({ length: 10 }, async () => {
      const socket = net.connect(Number(new URL(server.url).port), '127.0.0.1')
      t.teardown(() => socket.destroy())
      // When the response arrives, the server has accepted the connection.
      socket.write(head('GET', '/healthz', {}))
      await once(socket, 'data')
      return socket.resume()
    }),
  )
  sockets[0]?.write(sent[0] as string)
  await untilBlocked(lock, 'sluice.records')
  // While the process is stopped, the requests gather, so that it reads all of them in one iteration of the event loop. That is
  // more than may start in one (plugins/fair-turns.ts). They are on several connections: too many on one would close it.
  server.child.kill('SIGSTOP')
  await Promise.all(
    sockets.map(
      (socket, n) => new Promise((done) => socket.write(sent.slice(1 + n * 20, 1 + n * 20 + 20).join(''), done)),
    ),
  )
  server.child.kill('SIGCONT')
  const { msg } = await server.log(({ msg }) => String(msg).startsWith('Metrics at '))
  await until('all to wait', async () =>
    /^sluice_waiting_requests 200$/m.test(await (await fetch(String(msg).replace('Metrics at ', ''))).text()),
  )
  await lock.rollback().execute()
  const logs = await Promise.all(names.map((id) => server.log(({ requestId }) => requestId === id)))
  const of = (name: string) => collector.spans.slice(before).filter((span) => span.name === name)
  const ids = logs.map(({ spanId }) => spanId)
  const linked = () => of('flush').flatMap(({ links }) => links.map(({ spanId }) => spanId))
  await collector.span(
    'of all',
    () => linked().length >= 200 && ids.every((id) => collector.spans.some((s) => s.spanId === id)),
  )
  t.strictSame(linked().sort(), ids.sort(), 'each once')

  const shared = of('flush').find(({ links }) => links.length > 128) as SentSpan
  t.ok(shared, 'one flush has more links than the default limit')
  t.equal(shared.attributes['sluice.flush.requests'], shared.links.length)
  const [first, ...others] = shared.links.map(
    ({ spanId }) => collector.spans.find((s) => s.spanId === spanId) as SentSpan,
  )
  t.equal(shared.parentId, first?.spanId, 'it belongs to the trace of the first')
  for (const { links } of others) t.strictSame(links, [{ traceId: shared.traceId, spanId: shared.spanId }])
})

t.test('lines and compressed bodies are traced the same way', async (t) => {
  for (const [type, encoding, body] of [
    ['application/x-ndjson', 'identity', '{"source":"shop","type":"t","id":"line"}\n'],
    ['application/json', 'gzip', gzipSync('{"source":"shop","type":"t","id":"zip"}')],
  ] as const) {
    const answer = await post(body, { 'content-type': type, 'content-encoding': encoding })
    t.equal(answer.status, 201)
    const { spanId } = await logOf(answer)
    const flush = await collector.span('of the flush', ({ links }) => links.some((link) => link.spanId === spanId))
    t.equal(flush.parentId, spanId, type)
  }
})

t.test('a request that is not sampled has no span, but its trace is in the log and in the record', async (t) => {
  const [trace, parent] = ['c'.repeat(32), 'd'.repeat(16)]
  const answer = await post({ id: 'unsampled' }, { traceparent: `00-${trace}-${parent}-00` })
  t.match(await logOf(answer), { traceId: trace })
  t.equal((await read('unsampled')).traceparent, `00-${trace}-${parent}-00`)
  // Spans are sent in the order in which they end.
  const { spanId } = await logOf(await post({ id: 'after' }))
  await collector.span('of a later request', (span) => span.spanId === spanId)
  t.notOk(collector.spans.some(({ traceId }) => traceId === trace))
})

// — reading, refusals, failures —

t.test('the statements of a read are its children, and no span contains an id, a payload or a key', async (t) => {
  const trace = 'e'.repeat(32)
  const traceparent = `00-${trace}-${PARENT}-01`
  await get('/v1/records/shop/secret-id', { traceparent })
  const read = await collector.span('of the read', ({ traceId, kind }) => traceId === trace && kind === 'SERVER')
  t.match(read, { name: 'GET /v1/records/:source/:id', failed: false })
  t.match(read.attributes, { 'url.path': '/v1/records/:source/:id', 'sluice.problem.code': 'not_found' })
  t.match(await collector.span('of the query', (span) => span.parentId === read.spanId), {
    name: 'SELECT sluice.records',
    kind: 'CLIENT',
  })

  await get('/v1/secret-path?secret-query', { traceparent: `00-${trace}-${'1'.repeat(16)}-01` })
  const nowhere = await collector.span('of no route', ({ parentId }) => parentId === '1'.repeat(16))
  t.match(nowhere, { name: 'GET', attributes: { 'url.path': 'REDACTED', 'http.response.status_code': 404 } })
  await post({ id: 'secret-id', data: 'secret-data', subject: 'secret-subject' })
  for (const secret of ['secret-', KEY, new URL(database.apiUrl).password]) {
    t.notOk(
      collector.bodies.some((body) => body.includes(secret)),
      secret.slice(0, 7),
    )
  }
})

// The second response is read in the context of the first one.
t.test('the statements of an export belong to its trace, even if it is pipelined behind another request', async (t) => {
  const lines = Array.from({ length: 12_000 }, (_, n) => `{"source":"pages","type":"t","id":"${n}"}\n`)
  t.equal((await post(lines.join(''), { 'content-type': 'application/x-ndjson' })).status, 201)
  const [first, second] = ['3'.repeat(32), '4'.repeat(32)]
  const socket = net.connect(Number(new URL(server.url).port), '127.0.0.1')
  t.teardown(() => socket.destroy())
  const headers = { authorization: `Bearer ${KEY}`, accept: 'application/x-ndjson' }
  const exports = [first, second].map((trace) =>
    head('GET', '/v1/records?source=pages', { ...headers, traceparent: `00-${trace}-${PARENT}-01` }),
  )
  socket.resume().write(exports.join(''))
  for (const trace of [first, second]) {
    const request = await collector.span('of the export', ({ traceId, kind }) => traceId === trace && kind === 'SERVER')
    const selects = () => collector.spans.filter(({ parentId }) => parentId === request.spanId)
    // A page has 1,000 records.
    await until('the spans of the pages', () => selects().length >= 12)
  }
})

t.test('the span of a failed statement has its SQLSTATE', async (t) => {
  const db = connect(database.superUrl)
  t.teardown(() => db.destroy())
  await sql`ALTER TABLE sluice.records RENAME COLUMN subject TO renamed`.execute(db)
  const answer = await get('/v1/records/shop/one')
  await sql`ALTER TABLE sluice.records RENAME COLUMN renamed TO subject`.execute(db)
  t.equal(answer.status, 500)
  const { spanId } = await logOf(answer)
  const request = await collector.span('of the request', (span) => span.spanId === spanId)
  t.match(request, { failed: true, attributes: { 'error.type': 'internal_error', 'http.response.status_code': 500 } })
  const query = await collector.span('of the query', ({ parentId, failed }) => parentId === spanId && failed)
  t.match(query.attributes, { 'error.type': '42703', 'db.response.status_code': '42703' })
  t.match(
    server.logs().find(({ err, requestId }) => err && requestId === answer.headers.get('x-request-id')),
    { spanId },
  )
})

t.test('probes have no spans', async (t) => {
  await fetch(`${server.url}/readyz`)
  const { spanId } = await logOf(await post({ id: 'after the probe' }))
  await collector.span('of a later request', (span) => span.spanId === spanId)
  t.notOk(collector.spans.some(({ attributes }) => attributes['http.route'] === '/readyz'))
})

// — settings —

t.test('the standard OTEL variables apply, and the remaining spans are sent when the process ends', async (t) => {
  const collector = await startCollector(t)
  const { server, post, logOf } = await startTraced(t, {
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${collector.url}/mine`,
    OTEL_EXPORTER_OTLP_HEADERS: 'x-tenant=shop',
    OTEL_SERVICE_NAME: 'orders',
    OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test',
    OTEL_TRACES_SAMPLER: 'parentbased_traceidratio',
    OTEL_TRACES_SAMPLER_ARG: '0',
    OTEL_BSP_SCHEDULE_DELAY: '600000',
  })
  await post({ id: 'not in the sample' })
  const answer = await post({ id: 'in it' }, { traceparent: `00-${TRACE}-${PARENT}-01` })
  const { spanId } = await logOf(answer)
  server.child.kill('SIGINT')
  t.equal(await server.exit, 0)
  t.ok(collector.spans.some((span) => span.spanId === spanId))
  t.ok(collector.spans.every(({ traceId }) => traceId === TRACE))
  t.match(collector.headers[0], { url: '/mine', 'x-tenant': 'shop', 'content-type': 'application/x-protobuf' })
  t.match(collector.spans[0]?.resource, {
    'service.name': 'orders',
    'deployment.environment.name': 'test',
    'service.version': /^\d/,
  })
})

t.test('if the collector is down, the log has a line now and then, and requests are not affected', async (t) => {
  const settings = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1', OTEL_EXPORTER_OTLP_TIMEOUT: '200', ...AT_ONCE }
  const began = performance.now()
  const { server, post } = await startTraced(t, settings)
  for (let n = 0; n < 20; n++) t.equal((await post({ id: String(n) })).status, 201)
  const warns = ({ msg }: Record<string, unknown>) => /traces could not be sent/.test(String(msg))
  t.match(await server.log(warns), { level: 'warn', err: { message: String } })
  server.child.kill('SIGINT')
  t.equal(await server.exit, 0)
  // The first one, one every ten seconds after it, and one for the spans that are left at the end.
  const most = 2 + Math.floor((performance.now() - began) / 10_000)
  t.ok(server.logs().filter(warns).length <= most, `${server.logs().filter(warns).length} lines, ${most} at most`)
  t.match(server.stderr().trim(), /^curl .*\n\nTo see .*$/, 'only the lines for a person at the terminal')
})

// Except for its API, a few constants, which prom-client loads.
t.test('OpenTelemetry is loaded only if tracing is on', async (t) => {
  const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url }
  const folder = t.testdir()
  const cases = [
    [{}, false],
    [{ ...endpoint, OTEL_SDK_DISABLED: 'true' }, false],
    [{ ...endpoint, OTEL_TRACES_EXPORTER: 'none' }, false],
    [endpoint, true],
  ] as const
  const look = async ([settings, loads]: (typeof cases)[number]) => {
    const name = Object.keys(settings).join()
    const file = join(folder, `with ${name}`)
    // Not to stderr, which loses lines if its reader is slow.
    const hook = `import { registerHooks } from 'node:module'
      import { appendFileSync } from 'node:fs'
      const note = (url) => appendFileSync(${JSON.stringify(file)}, url + '\\n')
      registerHooks({ load: (url, context, next) => (note(url), next(url, context)) })`
    const flags = ['--import', `data:text/javascript,${encodeURIComponent(hook)}`]
    const server = await runServer(t, { DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none', ...settings }, { flags })
    server.child.kill('SIGINT')
    await server.exit
    const loaded = await readFile(file, 'utf8')
    t.match(loaded, /\/src\/app\.ts/, 'the hook sees what is loaded')
    t.equal(/@opentelemetry\/(?!api\/)|\/src\/plugins\/tracing\//.test(loaded), loads, name)
  }
  await Promise.all(cases.map(look))
})

t.test('the server does not start with an unsupported protocol', async (t) => {
  const settings = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4317', OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' }
  await t.rejects(runServer(t, { DATABASE_URL: 'postgres://x/y', ...settings }), {
    message: /OTEL_EXPORTER_OTLP_PROTOCOL is \\"grpc\\", but must be http\/protobuf/,
  })
})

// — helpers —

interface Traced {
  server: Command & { url: string }
  database: TestDatabase
  post(record: Record<string, unknown> | string | Buffer, headers?: Record<string, string>): Promise<Response>
  get(path: string, headers?: Record<string, string>): Promise<Response>
  /** The log line of the request. */
  logOf(answer: Response): Promise<Record<string, unknown>>
}

async function startTraced(t: Test, settings: Record<string, string>): Promise<Traced> {
  const database = await createDatabase(t)
  const env = { DATABASE_URL: database.ownerUrl, SLUICE_BOOTSTRAP_KEY: KEY, LOG_LEVEL: 'debug', ...settings }
  const server = await runServer(t, env, { args: ['--migrate'] })
  await server.log(({ msg }) => msg === 'ready')
  const authorization = `Bearer ${KEY}`
  return {
    server,
    database,
    post: (record, headers = {}) =>
      fetch(`${server.url}/v1/records`, {
        method: 'POST',
        headers: { authorization, 'content-type': 'application/json', ...headers },
        body:
          typeof record === 'string' || Buffer.isBuffer(record)
            ? record
            : JSON.stringify({ source: 'shop', type: 'order.placed', ...record }),
      }),
    get: (path, headers = {}) => fetch(`${server.url}${path}`, { headers: { authorization, ...headers } }),
    logOf: (answer) =>
      server.log(({ msg, requestId }) => msg === 'request' && requestId === answer.headers.get('x-request-id')),
  }
}

const read = async (id: string): Promise<Record<string, unknown>> =>
  (await (await get(`/v1/records/shop/${id}`)).json()) as Record<string, unknown>

import { sql } from 'kysely'
import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { exchange, head, listen } from '../helpers/socket.ts'

const { app, key, post, get, logs, database, makeKey } = await createApp(t)
const UUID = /^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/
const lineOf = (requestId: unknown) => logs.filter((line) => line.requestId === requestId && line.msg === 'request')

t.test('a request is logged in one line with its id, trace, route template, status, duration and counts', async (t) => {
  const trace = 'a'.repeat(32)
  const answer = await post([{ source: 's', type: 't', id: 'log/1' }, 5], {
    'x-request-id': 'mine-1',
    traceparent: `00-${trace}-${'b'.repeat(16)}-01`,
  })
  t.equal(answer.headers['x-request-id'], 'mine-1')
  const [line, ...more] = lineOf('mine-1')
  t.same(more, [])
  t.match(line, {
    level: 'info',
    requestId: 'mine-1',
    traceId: trace,
    method: 'POST',
    route: '/v1/records',
    status: 207,
    counts: { created: 1, duplicate: 0, conflict: 0, rejected: 1 },
  })
  t.type(line?.durationMs, 'number')
  t.ok(Number(line?.durationMs) > 0)

  const read = await get('/v1/records/s/log%2F1')
  t.match(lineOf(read.headers['x-request-id']), [{ route: '/v1/records/:source/:id', status: 200 }])
  const none = await get('/v1/nothing/log%2F1')
  t.match(lineOf(none.headers['x-request-id']), [{ route: null, status: 404, code: 'route_not_found' }])
  const refused = await post('{')
  t.match(lineOf(refused.headers['x-request-id']), [{ status: 400, code: 'invalid_json' }])
})

t.test('an X-Request-Id that is empty, too long, or has spaces or non-ASCII characters is replaced', async (t) => {
  for (const [given, kept] of [
    ['a', true],
    ['x'.repeat(128), true],
    ['{"level":"error"}', true],
    ['x'.repeat(129), false],
    ['a b', false],
    ['', false],
    ['caf\u00e9', false],
  ] as const) {
    const id = String((await get('/healthz', { 'x-request-id': given })).headers['x-request-id'])
    if (kept) t.equal(id, given)
    else t.match(id, UUID, JSON.stringify(given))
  }
  const ids = [await get('/healthz'), await get('/healthz')].map(({ headers }) => headers['x-request-id'])
  t.not(ids[0], ids[1])
})

t.test('a malformed trace is not logged', async (t) => {
  for (const traceparent of [
    'x',
    `00-${'0'.repeat(32)}-${'b'.repeat(16)}-01`,
    `00-${'a'.repeat(31)}-${'b'.repeat(16)}-01`,
  ]) {
    const { headers } = await get('/v1/records?limit=1', { traceparent })
    t.equal(lineOf(headers['x-request-id'])[0]?.traceId, undefined, traceparent)
  }
})

t.test('successful probes are logged at debug', async (t) => {
  for (const path of ['/healthz', '/readyz', '/openapi.json']) {
    const { headers } = await get(path)
    t.match(lineOf(headers['x-request-id']), [{ level: 'debug' }], path)
  }
})

t.test('no log line contains a payload, an attribute, a key or a connection string', async (t) => {
  const SECRET = 'tr0ub4dor'
  const { token } = await makeKey({ sourcePrefixes: [SECRET] })
  const port = await listen(app)
  const from = logs.length
  const record = { source: SECRET, type: SECRET, id: SECRET, subject: SECRET, ext: SECRET, data: { [SECRET]: SECRET } }
  await post(record)
  await post({ ...record, data: 2 })
  await post([record, { ...record, type: 5 }, { [SECRET]: 1 }])
  await post(`{"${SECRET}`)
  await post(`[${SECRET}]`)
  await post(`{"source":"s","type":"t","data":"${SECRET}\\u0000"}`)
  await post(`{"source":"s","type":"t","time":"${SECRET}"}`)
  await post(record, { authorization: `Bearer ${SECRET}-unknown` })
  await post({ ...record, source: 'elsewhere' }, { authorization: `Bearer ${token}` })
  await post(record, { 'idempotency-key': `${SECRET}\u00e9`, prefer: SECRET })
  await get(`/v1/records/${SECRET}/${SECRET}`)
  await get(`/v1/${SECRET}?${SECRET}`)
  await get(`/v1/records?data=${SECRET}&cursor=${SECRET}`)
  await get(`/v1/records?cursor=${SECRET}`)
  await get(`/v1/records/%zz/${SECRET}`)
  await exchange(port, `${SECRET} / HTTP/1.1\r\n\r\n`)
  await exchange(port, head('POST', '/v1/records', { Authorization: `Bearer ${SECRET}`, 'Content-Length': '10' }))
  const lines = logs.slice(from).map((line) => JSON.stringify(line))
  t.ok(lines.length >= 14, `${lines.length} lines`)
  for (const secret of [SECRET, token, key, new URL(database.apiUrl).password, 'postgres://', 'postgresql://']) {
    t.same(
      lines.filter((line) => line.includes(secret)),
      [],
      secret === key ? 'the key' : secret.slice(0, 12),
    )
  }
})

t.test('a defect is a 500 whose cause is in the log under the same requestId, and not in the response', async (t) => {
  const { get, logs, database } = await createApp(t)
  const db = connect(database.superUrl)
  await sql`ALTER TABLE sluice.records RENAME COLUMN subject TO ${sql.id('renamed')}`.execute(db)
  await db.destroy()
  const answer = await get('/v1/records?subject=x')
  t.equal(answer.status, 500)
  t.match(answer.json, { code: 'internal_error', retryable: true, outcome: 'not_written' })
  t.notMatch(answer.text, /column|sluice\.records|SELECT/)
  const line = logs.find(({ level, err }) => level === 'error' && err !== undefined)
  t.match(line, { requestId: answer.json.requestId, code: 'internal_error', err: { code: '42703' } })
  t.notMatch(JSON.stringify(line), /postgres(ql)?:\/\//)
})

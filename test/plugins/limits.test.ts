import { sql } from 'kysely'
import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { openClient } from '../helpers/http.ts'
import { isProblem } from '../helpers/problem.ts'
import { exchange, head, listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

const NDJSON = { 'content-type': 'application/x-ndjson' }
const records = (source: string, count: number) =>
  Array.from({ length: count }, (_, id) => ({ source, type: 't', id: String(id) }))
const lines = (source: string, count: number) =>
  records(source, count)
    .map((record) => `${JSON.stringify(record)}\n`)
    .join('')

const server = await createApp(t)
const { app, post, makeKey } = server

/** The header of a new key with this rate. */
async function keyWithRate(recordsPerSecond: number): Promise<{ authorization: string }> {
  return { authorization: `Bearer ${(await makeKey({ recordsPerSecond })).token}` }
}

t.test('a response to a key without a limit has no rate headers', async (t) => {
  const { headers } = await post(records('free', 1))
  t.notOk('ratelimit' in headers || 'ratelimit-policy' in headers)
})

t.test('every record counts, and each response says how many are left', async (t) => {
  const key = await keyWithRate(1000)
  const left = async (body: unknown, headers = {}) => {
    const answer = await post(body, { ...key, ...headers })
    t.equal(answer.headers['ratelimit-policy'], '"records";q=10000;w=10')
    return Number(/^"records";r=(\d+);t=\d+$/.exec(String(answer.headers.ratelimit))?.[1])
  }
  const began = performance.now()
  /** The most that can be left after this many records, because the limit is refilled meanwhile. */
  const atMost = (taken: number) => 10_000 - taken + (performance.now() - began)
  const first = await left(records('counted', 5000))
  t.ok(first >= 5000 && first <= atMost(5000), `${first} left after a batch`)
  const second = await left(records('counted', 2))
  t.ok(second <= atMost(5002), `${second} left after duplicates`)
  const third = await left('{"source":5}')
  t.ok(third <= atMost(5003), `${third} left after a rejected record`)
})

t.test('a key over its rate gets 429 with the time that it has to wait, and nothing is written', async (t) => {
  const key = await keyWithRate(1)
  const began = performance.now()
  t.equal((await post(records('over', 500), key)).status, 201, 'a batch is taken whole')
  const answer = await post(records('refused', 1), key)
  isProblem(t, answer, 'rate_limited')
  t.equal(answer.headers['ratelimit-policy'], '"records";q=10;w=10')
  const wait = Number(answer.headers['retry-after'])
  const paid = (performance.now() - began) / 1000
  t.ok(wait >= 490 - paid && wait <= 491, `${wait} s`)
  t.equal(answer.headers.ratelimit, `"records";r=0;t=${wait}`)
  t.equal((await server.get('/v1/records/refused/0')).status, 404)

  t.equal((await post(records('stranger', 1))).status, 201, 'another key is not affected')
  t.equal((await server.get('/v1/records/over/0', key)).status, 200, 'reading is not limited')
})

t.test('a request of a key over its rate is refused before its body is sent', async (t) => {
  const { authorization } = await keyWithRate(1)
  await post(records('first', 100), { authorization })
  const headers = { Authorization: authorization, 'Content-Type': 'application/json', 'Content-Length': '10000000' }
  isProblem(t, await exchange(await listen(app), head('POST', '/v1/records', headers)), 'rate_limited')
  t.equal(app.ingestMemory.used, 0)
})

t.test('KEY_RECORDS_PER_SECOND applies to keys without a rate of their own', async (t) => {
  const limited = await createApp(t, { KEY_RECORDS_PER_SECOND: '1' })
  t.equal((await limited.post(records('all', 100))).status, 201)
  isProblem(t, await limited.post(records('all', 1)), 'rate_limited')
  const { token } = await limited.makeKey({ recordsPerSecond: 1000 })
  const own = { authorization: `Bearer ${token}` }
  for (let times = 0; times < 3; times++)
    t.equal((await limited.post(records('own', 100), own)).status, 200 + (times === 0 ? 1 : 0))
})

t.test('lines of a key over its rate are read at that rate, and all are stored', async (t) => {
  const key = await keyWithRate(500)
  const began = performance.now()
  const answer = await post(lines('slow', 6500), { ...key, ...NDJSON })
  t.equal(answer.status, 201)
  t.match(answer.json, { counts: { created: 6500 }, committedLines: 6500 })
  // 5,000 at once, 1,000 more on credit, and the last 500 when the debt is repaid.
  t.ok(performance.now() - began > 1900, `after ${performance.now() - began} ms`)
})

// A stream kept the limit that its key had at the start, even if the key was changed.
t.test('lines that wait for the rate of their key continue at its new rate', async (t) => {
  const { id, token } = await makeKey({ recordsPerSecond: 1 })
  const { request, answer } = openClient(t, await listen(app), token).open('POST', '/v1/records', NDJSON)
  request.end(lines('changed', 6000))
  // At that rate, the next lines would wait for more than ten minutes.
  await until('the first lines', async () => (await server.get('/v1/records/changed/0')).status === 200)
  const root = connect(server.database.superUrl)
  t.teardown(() => root.destroy())
  await sql`UPDATE sluice.keys SET records_per_second = 1000000 WHERE id = ${id}`.execute(root)
  t.match(await answer, { status: 201, json: { counts: { created: 6000 } } })
})

t.test('if a sender disconnects while its lines wait for the rate, their memory is released', async (t) => {
  const leaving = await createApp(t)
  const { token } = await leaving.makeKey({ recordsPerSecond: 1 })
  const client = openClient(t, await listen(leaving.app), token)
  const { request, answer } = client.open('POST', '/v1/records', NDJSON)
  request.end(lines('leaving', 3000))
  await until('the first lines', async () => (await leaving.get('/v1/records/leaving/0')).status === 200)
  t.ok(leaving.app.ingestMemory.used > 0, 'the lines wait')
  request.destroy()
  await t.rejects(answer)
  await until('the end of the request', () => leaving.app.ingestMemory.used === 0)
})

import { mock } from 'node:test'
import { sql } from 'kysely'
import t from 'tap'
import { createApp, type TestApp } from '../helpers/app.ts'
import { stopTimers } from '../helpers/clock.ts'
import { connect } from '../helpers/connect.ts'
import { exchange, listen } from '../helpers/socket.ts'

t.test('a flood of refusals is ten log lines and the number of the others', async (t) => {
  const app = await createApp(t, { LOG_LEVEL: 'info' })
  stopTimers(t)
  const answers = await times(60, () => app.post({}, { authorization: 'Bearer sluice_0_x' }))
  t.ok(answers.every(({ status }) => status === 401))
  await app.app.close()
  t.same(countLines(app, 'unauthorized'), { requests: 10, suppressed: 50 })
  t.match(summaries(app), [{ level: 'warn', code: 'unauthorized', suppressed: 50 }])
})

t.test('refusals with one code do not hide others, and successful requests are always logged', async (t) => {
  const app = await createApp(t, { LOG_LEVEL: 'info' })
  await times(20, () => app.post('{'))
  t.equal((await app.post({ source: 's' })).status, 422)
  await times(20, () => app.post({ source: 's', type: 't' }))
  t.match(countLines(app, 'required'), { requests: 1, suppressed: 0 })
  t.equal(app.logs.filter(({ status }) => status === 201).length, 20)
})

t.test('after a second, refusals are logged again', async (t) => {
  const app = await createApp(t, { LOG_LEVEL: 'info' })
  stopTimers(t)
  await times(20, () => app.post('{'))
  mock.timers.tick(999)
  t.same(summaries(app), [])
  mock.timers.tick(1)
  t.same(countLines(app, 'invalid_json'), { requests: 10, suppressed: 10 })
  const again = await app.post('{')
  t.ok(app.logs.find(({ requestId, msg }) => msg === 'request' && requestId === again.headers['x-request-id']))
})

t.test('input that is not HTTP is logged like any other refusal, and no more often', async (t) => {
  const app = await createApp(t, { LOG_LEVEL: 'info' })
  const port = await listen(app.app)
  stopTimers(t)
  const first = await exchange(port, 'FOO / HTTP/1.1\r\n\r\n')
  t.match(
    // Only these lines: others, about the database, may come before.
    app.logs.filter(({ msg }) => msg === 'request'),
    [{ status: 501, code: 'not_implemented', requestId: first.json.requestId }],
  )
  await times(30, () => exchange(port, 'FOO / HTTP/1.1\r\n\r\n'))
  await app.app.close()
  t.same(countLines(app, 'not_implemented'), { requests: 10, suppressed: 21 })
})

t.test('the causes of refusals during an outage do not flood the log either', async (t) => {
  const app = await createApp(t, { LOG_LEVEL: 'info', DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none' })
  const answers = await times(60, () => app.get('/v1/records/s/1'))
  t.ok(answers.every(({ status }) => status === 503))
  await app.app.close()
  const { requests, suppressed } = countLines(app, 'database_unavailable')
  t.equal(requests + suppressed, 60)
  t.ok(suppressed > 0)
  const reasons = app.logs.filter(({ msg, err }) => msg !== 'request' && err !== undefined)
  t.match(reasons[0], { level: 'warn', err: { cause: { code: 'ECONNREFUSED' } } })
  t.ok(reasons.length <= requests + 2, 'one per logged request, and those of the keys and of the readiness')
})

// The response says that the log has the cause, under the requestId.
t.test('a defect is logged every time', async (t) => {
  const app = await createApp(t, { LOG_LEVEL: 'info' })
  const db = connect(app.database.superUrl)
  await sql`ALTER TABLE sluice.records RENAME COLUMN subject TO renamed`.execute(db).finally(() => db.destroy())
  const answers = await times(20, () => app.get('/v1/records/s/1'))
  t.ok(answers.every(({ status }) => status === 500))
  t.equal(app.logs.filter(({ level, err }) => level === 'error' && err !== undefined).length, 20)
  t.match(countLines(app, 'internal_error'), { requests: 20, suppressed: 0 })
})

t.test('at the level debug, every refusal is logged', async (t) => {
  const app = await createApp(t, { LOG_LEVEL: 'debug' })
  await times(30, () => app.post('{'))
  t.equal(countLines(app, 'invalid_json').requests, 30)
})

// — helpers —

/** Sends this many at once. */
const times = <T>(count: number, send: () => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: count }, send))

const summaries = ({ logs }: TestApp) => logs.filter(({ suppressed }) => suppressed !== undefined)

/** How many refusals with this code have a line of their own, and how many are only counted. */
function countLines({ logs }: TestApp, code: string) {
  const lines = logs.filter((line) => line.code === code)
  return {
    requests: lines.filter(({ msg }) => msg === 'request').length,
    suppressed: lines.reduce((sum, { suppressed }) => sum + Number(suppressed ?? 0), 0),
  }
}

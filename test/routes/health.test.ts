import { sql } from 'kysely'
import t from 'tap'
import { createApp, type TestApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { until } from '../helpers/until.ts'

/** Waits until /readyz has this status. Readiness is checked every half second. @returns its text */
async function waitForReadyz({ get }: TestApp, status: number): Promise<string> {
  return until(`status ${status} of /readyz`, async () => {
    const answer = await get('/readyz')
    return answer.status === status && answer.text
  })
}

t.test('/healthz and /readyz return 200 without a key when the database is reachable', async (t) => {
  const server = await createApp(t)
  const health = await server.app.inject({ url: '/healthz' })
  t.equal(health.statusCode, 200)
  t.equal(health.body, 'ok\n')
  t.equal(await waitForReadyz(server, 200), 'ready\n')
})

t.test('while the server drains, /readyz returns 503, and /healthz and the API still work', async (t) => {
  const server = await createApp(t)
  await waitForReadyz(server, 200)
  server.app.drain()
  const { status, text } = await server.get('/readyz')
  t.equal(status, 503)
  t.equal(text, 'draining\n')
  t.equal((await server.get('/healthz')).status, 200)
  t.equal((await server.post({ source: 's', type: 't' })).status, 201)
})

t.test('/readyz returns 503 with a reason until the database is migrated, and then 200', async (t) => {
  const server = await createApp(t)
  const db = connect(server.database.superUrl)
  t.teardown(() => db.destroy())
  // The app checks for the first time when it gets its first request.
  await sql`ALTER TABLE sluice.migrations RENAME TO away`.execute(db)
  t.match(await waitForReadyz(server, 503), /^starting: /)
  t.equal((await server.get('/healthz')).status, 200)
  await sql`ALTER TABLE sluice.away RENAME TO migrations`.execute(db)
  t.equal(await waitForReadyz(server, 200), 'ready\n')
})

import { sql } from 'kysely'
import t from 'tap'
import { createApp, type TestApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { until } from '../helpers/until.ts'

/** What /readyz says once it has this status; readiness is looked for every half second. */
async function readyIs({ get }: TestApp, status: number): Promise<string> {
  return until(`status ${status} of /readyz`, async () => {
    const answer = await get('/readyz')
    return answer.status === status && answer.text
  })
}

t.test('/healthz and /readyz say yes without a key once the database was reached', async (t) => {
  const server = await createApp(t)
  const health = await server.app.inject({ url: '/healthz' })
  t.equal(health.statusCode, 200)
  t.equal(health.body, 'ok\n')
  t.equal(await readyIs(server, 200), 'ready\n')
})

t.test('/readyz says no while draining, for good; /healthz and the API go on', async (t) => {
  const server = await createApp(t)
  await readyIs(server, 200)
  server.app.drain()
  const { status, text } = await server.get('/readyz')
  t.equal(status, 503)
  t.equal(text, 'draining\n')
  t.equal((await server.get('/healthz')).status, 200)
  t.equal((await server.post({ source: 's', type: 't' })).status, 201)
})

t.test('/readyz says no, and why, while the database lacks a migration; then yes by itself', async (t) => {
  const server = await createApp(t)
  const db = connect(server.database.superUrl)
  t.teardown(() => db.destroy())
  // The app looks for the first time when it gets its first request.
  await sql`ALTER TABLE sluice.migrations RENAME TO away`.execute(db)
  t.match(await readyIs(server, 503), /^starting: /)
  t.equal((await server.get('/healthz')).status, 200)
  await sql`ALTER TABLE sluice.away RENAME TO migrations`.execute(db)
  t.equal(await readyIs(server, 200), 'ready\n')
})

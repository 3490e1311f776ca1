import { sql } from 'kysely'
import t from 'tap'
import { poolStatus } from '../../src/postgres/connect.ts'
import { createApp } from '../helpers/app.ts'
import { turn } from '../helpers/clock.ts'
import { connect } from '../helpers/connect.ts'
import { untilBlocked } from '../helpers/locks.ts'
import { until } from '../helpers/until.ts'

// If a Service sent it more than a hundred requests at once, it would refuse some of them.
t.test('an instance that has not read the keys yet is not ready', async (t) => {
  const { app, get, database } = await createApp(t)
  const db = connect(database.superUrl)
  t.teardown(() => db.destroy())
  await db.transaction().execute(async (trx) => {
    await sql`LOCK TABLE sluice.keys`.execute(trx)
    await app.ready()
    await untilBlocked(trx, 'sluice.keys')
    t.equal((await get('/readyz')).status, 503)
  })
  await until('the instance to be ready', async () => (await get('/readyz')).status === 200)
})

// Otherwise, a Service would send requests to an instance that is about to end.
t.test('an instance that begins to drain during a readiness check does not become ready', async (t) => {
  const { app, get, database } = await createApp(t)
  const db = connect(database.superUrl)
  t.teardown(() => db.destroy())
  await db.transaction().execute(async (trx) => {
    await sql`LOCK TABLE sluice.migrations`.execute(trx)
    await app.ready()
    await untilBlocked(trx, 'sluice.migrations')
    app.drain()
  })
  await until('the check to end', () => poolStatus(app.db.read).idle > 0)
  await turn()
  t.match(await get('/readyz'), { status: 503, text: 'draining\n' })
})

import { sql } from 'kysely'
import t from 'tap'
import { poolStatus } from '../../src/data/connect.ts'
import { createApp } from '../helpers/app.ts'
import { turn } from '../helpers/clock.ts'
import { connect } from '../helpers/connect.ts'
import { waitsFor } from '../helpers/locks.ts'
import { until } from '../helpers/until.ts'

// Of the requests that a Service sent to it, more than a hundred at once would have been refused.
t.test('an instance that could not read the keys yet is not ready', async (t) => {
  const { app, get, database } = await createApp(t)
  const db = connect(database.superUrl)
  t.teardown(() => db.destroy())
  await db.transaction().execute(async (trx) => {
    await sql`LOCK TABLE sluice.keys`.execute(trx)
    await app.ready()
    await waitsFor(trx, 'sluice.keys')
    t.equal((await get('/readyz')).status, 503)
  })
  await until('it to be ready', async () => (await get('/readyz')).status === 200)
})

// A Service would send requests to an instance that is about to end.
t.test('an instance that drains while it looks whether it is ready does not get ready', async (t) => {
  const { app, get, database } = await createApp(t)
  const db = connect(database.superUrl)
  t.teardown(() => db.destroy())
  await db.transaction().execute(async (trx) => {
    await sql`LOCK TABLE sluice.migrations`.execute(trx)
    await app.ready()
    await waitsFor(trx, 'sluice.migrations')
    app.drain()
  })
  await until('it to have looked', () => poolStatus(app.db.read).idle > 0)
  await turn()
  t.match(await get('/readyz'), { status: 503, text: 'draining\n' })
})

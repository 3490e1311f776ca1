import { sql } from 'kysely'
import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { openClient } from '../helpers/http.ts'
import { listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

// The writer holds several chunks of a stream at a time. They are most of the memory that the stream takes.
t.test('lines that wait for their commit count in the budget until they are stored', async (t) => {
  const { app, key, database } = await createApp(t)
  const db = connect(database.superUrl)
  t.teardown(() => db.destroy())
  const client = openClient(t, await listen(app), key)
  const { request, answer } = client.open('POST', '/v1/records', { 'content-type': 'application/x-ndjson' })
  const line = (id: number) => `{"source":"held","type":"t","id":"${id}","data":"${'x'.repeat(1000)}"}\n`
  await db.transaction().execute(async (trx) => {
    await sql`LOCK TABLE sluice.records IN SHARE MODE`.execute(trx)
    request.write(Array.from({ length: 1500 }, (_, id) => line(id)).join(''))
    await until('a megabyte to be reserved', () => app.ingestMemory.used > 1_500_000)
  })
  request.end()
  t.match(await answer, { status: 201, json: { counts: { created: 1500 } } })
  t.equal(app.ingestMemory.used, 0)
})

import { sql } from 'kysely'
import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { isProblem } from '../helpers/problem.ts'

// Without it a scan of everything goes on for as long as it takes, on one of a few connections.
t.test('a read that takes longer than READ_TIMEOUT_SECONDS is ended, and the problem says so', async (t) => {
  const { get, database } = await createApp(t, { READ_TIMEOUT_SECONDS: '3' })
  const db = connect(database.superUrl)
  t.teardown(() => db.destroy())
  await db.transaction().execute(async (trx) => {
    // Where nothing ends the reads, this ends what they wait for.
    await sql`SET LOCAL idle_in_transaction_session_timeout = '60s'`.execute(trx)
    await sql`LOCK TABLE sluice.records`.execute(trx)
    const paths = ['/v1/records', '/v1/records/shop/1']
    const answers = await Promise.all(paths.map((path) => get(path)))
    for (const [at, answer] of answers.entries()) isProblem(t, answer, 'query_timeout', { name: paths[at] as string })
  })
  // Under the same limit, which therefore is not the least there is.
  t.equal((await get('/v1/records')).status, 200)
})

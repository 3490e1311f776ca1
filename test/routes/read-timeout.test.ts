import { sql } from 'kysely'
import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { isProblem } from '../helpers/problem.ts'

// Without the limit, a full scan would occupy one of a few connections for as long as it takes.
t.test('a read that takes longer than READ_TIMEOUT_SECONDS is cancelled, and the problem says so', async (t) => {
  const { get, database } = await createApp(t, { READ_TIMEOUT_SECONDS: '3' })
  const db = connect(database.superUrl)
  t.teardown(() => db.destroy())
  await db.transaction().execute(async (trx) => {
    // If nothing cancels the reads, this ends the transaction that they wait for.
    await sql`SET LOCAL idle_in_transaction_session_timeout = '60s'`.execute(trx)
    await sql`LOCK TABLE sluice.records`.execute(trx)
    const paths = ['/v1/records', '/v1/records/shop/1']
    const answers = await Promise.all(paths.map((path) => get(path)))
    for (const [at, answer] of answers.entries()) {
      isProblem(t, answer, 'query_timeout', { name: paths[at] as string })
      t.match(answer.json.detail, 'add a filter, such as a source, a type or a range of times, and leave out count')
    }
  })
  // With the same limit: it does not refuse every read.
  t.equal((await get('/v1/records')).status, 200)
})

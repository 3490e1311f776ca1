import { sql } from 'kysely'
import t from 'tap'
import { openSession } from '../../db/embedded/session.ts'
import { connect } from '../helpers/connect.ts'
import { createEmptyDatabase } from '../helpers/postgres.ts'

// PostgreSQL was restarted just when the session took its lock again. The error had no listener, and the process ended.
t.test('a connection that is lost between two statements does not end the process', async (t) => {
  const { superUrl } = await createEmptyDatabase(t)
  const root = connect(superUrl)
  const lost = Promise.withResolvers<void>()
  const db = openSession(superUrl, lost.resolve)
  // Neither the session nor an idle connection keeps the process alive.
  const alive = setInterval(() => {}, 60_000)
  t.teardown(() => clearInterval(alive))
  t.teardown(() => Promise.all([root.destroy(), db.destroy()]))
  const failed = db.connection().execute(async (session) => {
    const { rows } = await sql<{ pid: number }>`SELECT pg_backend_pid() AS pid`.execute(session)
    await sql`SELECT pg_terminate_backend(${rows[0]?.pid}, 60000)`.execute(root)
    await sql`SELECT 1`.execute(session)
  })
  await t.rejects(failed)
  await lost.promise
  const { rows } = await sql<{ one: number }>`SELECT 1 AS one`.execute(db)
  t.equal(rows[0]?.one, 1, 'the next query opens another connection')
})

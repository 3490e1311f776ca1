import { sql } from 'kysely'
import t from 'tap'
import { connect } from '../../src/data/connect.ts'
import { NotConnectedError } from '../../src/data/sqlstate.ts'
import { connect as connectAs } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'

t.test('who tries again does not wait for a slow login, and finds it done at a later try', async (t) => {
  const { apiUrl, superUrl } = await createDatabase(t)
  const root = connectAs(superUrl)
  // Longer than a try waits, shorter than a login may take.
  await sql`CREATE FUNCTION linger() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(2); END $$`.execute(
    root,
  )
  await sql`CREATE EVENT TRIGGER slow_login ON login EXECUTE FUNCTION linger()`.execute(root)
  await root.destroy()

  const db = connect({
    url: apiUrl,
    name: 'test',
    connections: 3,
    statementTimeoutMs: 0,
    loginMs: 1_000,
    onError: () => {},
  })
  t.teardown(() => db.destroy())
  let failures = 0
  const read = () => sql`SELECT 1`.execute(db)
  const tried = () =>
    read().catch((error) => {
      if (!(error instanceof NotConnectedError)) throw error
      failures++
    })
  while ((await tried()) === undefined);
  t.ok(failures > 0, `${failures} tries were in vain`)
  await read()
})

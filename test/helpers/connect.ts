import { Kysely, PostgresDialect } from 'kysely'
import { Pool } from 'pg'

/** A connection for a test's own questions; `destroy()` it. Survives the server's end, which some tests bring about. */
export function connect(url: string, max = 1): Kysely<unknown> {
  // An idle connection stays, however long the test takes: it may have locks and settings. It keeps no process alive.
  const pool = new Pool({ connectionString: url, max, idleTimeoutMillis: 0, allowExitOnIdle: true })
  pool.on('error', () => {})
  return new Kysely<unknown>({ dialect: new PostgresDialect({ pool }) })
}

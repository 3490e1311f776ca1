import { Kysely, PostgresDialect } from 'kysely'
import { Pool } from 'pg'

/** A connection for a test's own statements. The test must call `destroy()`. It does not throw if the server ends. */
export function connect(url: string, max = 1): Kysely<unknown> {
  // An idle connection stays open, however long the test takes, because it may hold locks and settings. It does not keep the
  // process alive.
  const pool = new Pool({ connectionString: url, max, idleTimeoutMillis: 0, allowExitOnIdle: true })
  pool.on('error', () => {})
  // The pool does not report errors of a connection that is in use.
  pool.on('connect', (client) => client.on('error', () => {}))
  return new Kysely<unknown>({ dialect: new PostgresDialect({ pool }) })
}

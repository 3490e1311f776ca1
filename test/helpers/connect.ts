import { Kysely, PostgresDialect } from 'kysely'
import { Pool } from 'pg'

/** A connection for a test's own questions; `destroy()` it. Survives the server's end, which some tests bring about. */
export function connect(url: string, max = 1): Kysely<unknown> {
  const pool = new Pool({ connectionString: url, max })
  pool.on('error', () => {})
  return new Kysely<unknown>({ dialect: new PostgresDialect({ pool }) })
}

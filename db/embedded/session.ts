import { Kysely, PostgresDialect } from 'kysely'
import { Pool } from 'pg'

/**
 * One connection that stays open, so that its session locks stay. If it breaks, `onLost` is called, and the next query opens
 * another one. It does not keep the process alive.
 */
export function openSession(url: string, onLost: () => unknown = () => {}): Kysely<unknown> {
  const pool = new Pool({
    connectionString: url,
    // Otherwise the driver would read PGSSLMODE and PGSSLNEGOTIATION, which are for other servers.
    ssl: false,
    sslnegotiation: 'postgres',
    max: 1,
    idleTimeoutMillis: 0,
    allowExitOnIdle: true,
    connectionTimeoutMillis: 5_000,
    application_name: 'sluice embedded',
  })
  // Without a listener for 'error', the process would end when PostgreSQL restarts. The pool reports errors of idle connections;
  // a connection that is in use, between two statements, reports them itself (node-postgres, issue 1611).
  pool.on('error', () => {})
  pool.on('connect', (client) => client.on('error', () => {}))
  pool.on('remove', onLost)
  return new Kysely<unknown>({ dialect: new PostgresDialect({ pool }) })
}

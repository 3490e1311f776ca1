import pg from 'pg'
import { within } from '../lib/within.ts'
import { connectionOf } from './pg-internals.ts'
import { UnsupportedServerError } from './unsupported.ts'

/**
 * How often the check tries. Without load, the first round finds a shared connection. Under load, a pooler has several
 * connections, and one round may miss that they are shared.
 */
const ROUNDS = 5
/** Less than a login may take (connect.ts), so that this message is the one that is seen. */
const CHECK_MS = 2_000
const LATE =
  'the pooler gave no second connection in time, so it is unknown whether it shares them. Its default_pool_size may be too small'

/** The checks that have succeeded or are running, by URL. */
const checks = new Map<string, Promise<void>>()

/**
 * Throws if a pooler gives the same connection of PostgreSQL to several clients. Sluice relies on its session: on settings such as
 * the time limits, on prepared statements and on locks. To send the settings with each transaction instead would cost every flush
 * more statements. The result is kept until `forgetPooling`.
 * @param client logged in through a pooler
 * @param setting the name of the setting with the URL, for the message
 * @throws UnsupportedServerError, and what the driver throws
 */
export function requireSessionPooling(client: pg.ClientBase, connectionString: string, setting: string): Promise<void> {
  let check = checks.get(connectionString)
  if (check === undefined) {
    check = compareBackends(client, connectionString, setting)
    checks.set(connectionString, check)
    check.catch(() => checks.delete(connectionString))
  }
  return check
}

/** Called when a connection breaks: the pooler may have been restarted with another configuration. */
export const forgetPooling = (connectionString: string): void => void checks.delete(connectionString)

/** A second client must never get the backend of the first one, and the first one must keep its backend. */
async function compareBackends(client: pg.ClientBase, connectionString: string, setting: string): Promise<void> {
  const other = new pg.Client({ connectionString, application_name: 'sluice-check', connectionTimeoutMillis: CHECK_MS })
  other.on('error', () => {})
  try {
    await within(CHECK_MS, compare(), LATE)
  } finally {
    connectionOf(other).stream.destroy()
  }

  async function compare(): Promise<void> {
    await other.connect()
    const own = await backendOf(client)
    for (let round = 0; round < ROUNDS; round++) {
      if ((await backendOf(other)) === own) refuse(setting)
      // In a transaction, the other client keeps its backend from the first one.
      await other.query('BEGIN').catch((error) => {
        // Statement pooling refuses it.
        if (error instanceof pg.DatabaseError) refuse(setting)
        throw error
      })
      if ((await backendOf(other)) === own || (await backendOf(client)) !== own) refuse(setting)
      await other.query('COMMIT')
    }
  }
}

async function backendOf(client: pg.ClientBase): Promise<number> {
  const { rows } = await client.query<{ pid: number }>('SELECT pg_catalog.pg_backend_pid() AS pid')
  return (rows[0] as { pid: number }).pid
}

function refuse(setting: string): never {
  throw new UnsupportedServerError(
    `The pooler in ${setting} shares connections between clients, but Sluice needs a connection for its whole session. Set pool_mode = session for this database in pgbouncer.ini, or connect to PostgreSQL directly`,
  )
}

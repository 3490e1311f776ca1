import type { Config } from '../config.ts'
import { explain } from '../lib/explain.ts'
import { LOCAL_FOLDER } from '../lib/local-folder.ts'
import { awaitDatabase } from '../postgres/await-database.ts'
import { connect } from '../postgres/connect.ts'
import { sqlstateOf } from '../postgres/sqlstate.ts'
import type { Database } from '../postgres/tables.ts'

export interface DatabaseUrls {
  /** For the server: may store and read records. */
  api: string
  /** For migrations. */
  owner: string
  /** For retention: may delete records. */
  maintenance: string
  embedded: boolean
  release(): Promise<void>
}

/** The database of DATABASE_URL, or else the embedded one, which is started if necessary. @throws EmbeddedError */
export async function openDatabase({ DATABASE_URL }: Config): Promise<DatabaseUrls> {
  if (DATABASE_URL !== undefined) {
    const one = { api: DATABASE_URL, owner: DATABASE_URL, maintenance: DATABASE_URL }
    return { ...one, embedded: false, release: async () => {} }
  }
  // A development dependency: it is not loaded if DATABASE_URL is set, and the image does not contain it.
  const { openEmbedded } = await import('../../db/embedded/index.ts').catch((cause) => {
    throw new Error('DATABASE_URL is not set, and the embedded PostgreSQL is not installed. Set DATABASE_URL.', {
      cause,
    })
  })
  const { provision } = await import('../postgres/roles.ts')
  const { apiUrl, ownerUrl, maintenanceUrl, release } = await openEmbedded(LOCAL_FOLDER, provision)
  return { api: apiUrl, owner: ownerUrl, maintenance: maintenanceUrl, embedded: true, release }
}

/** What to do about a failed statement of a command, by SQLSTATE. */
const ADVICE: Record<string, string> = {
  '25006': 'DATABASE_URL must lead to the primary, with default_transaction_read_only off',
  '3F000': 'Run "sluice migrate" as the owner of the database first',
  '42501': 'DATABASE_URL must log in as a role that may do this: sluice_owner, or see db/privileges.sql',
  '42P01': 'Run "sluice migrate" as the owner of the database first',
}

/**
 * Runs `work` on its own connection.
 * @param waitSeconds how long it tries to connect
 * @throws what `work` throws; a message of PostgreSQL also says what to do
 */
export async function withConnection<T>(url: string, work: (db: Database) => Promise<T>, waitSeconds = 0): Promise<T> {
  const db = connect({ url, name: 'sluice-command', connections: 1, statementTimeoutMs: 0, onError: () => {} })
  try {
    await awaitDatabase(db, waitSeconds)
    return await work(db)
  } catch (error) {
    const advice = ADVICE[sqlstateOf(error) ?? ''] ?? ADVICE[sqlstateOf((error as Error).cause) ?? '']
    if (advice === undefined) throw error
    throw new Error(`${explain(error)}. ${advice}`, { cause: error })
  } finally {
    await db.destroy()
  }
}

import type { Config } from '../config.ts'
import { LOCAL_FOLDER } from '../lib/local-folder.ts'
import { awaitDatabase } from '../postgres/await-database.ts'
import { connect } from '../postgres/connect.ts'
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

/**
 * Runs `work` on its own connection.
 * @param waitSeconds how long it tries to connect
 */
export async function withConnection<T>(url: string, work: (db: Database) => Promise<T>, waitSeconds = 0): Promise<T> {
  const db = connect({ url, name: 'sluice-command', connections: 1, statementTimeoutMs: 0, onError: () => {} })
  try {
    await awaitDatabase(db, waitSeconds)
    return await work(db)
  } finally {
    await db.destroy()
  }
}

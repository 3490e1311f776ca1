import type { Config } from '../config.ts'
import { connect } from '../data/connect.ts'
import type { Database } from '../data/schema.ts'
import { LOCAL_FOLDER } from '../lib/local-folder.ts'

export interface DatabaseUrls {
  /** For the server: may store and read records. */
  api: string
  /** For migrations. */
  owner: string
  /** For retention: may remove records. */
  maintenance: string
  embedded: boolean
  release(): Promise<void>
}

/** The database of DATABASE_URL, else the embedded one, started if need be. @throws EmbeddedError */
export async function openDatabase({ DATABASE_URL }: Config): Promise<DatabaseUrls> {
  if (DATABASE_URL !== undefined) {
    const one = { api: DATABASE_URL, owner: DATABASE_URL, maintenance: DATABASE_URL }
    return { ...one, embedded: false, release: async () => {} }
  }
  // A development dependency: with a database of one's own none of it is loaded, and the image does not have it.
  const { openEmbedded } = await import('../../db/embedded/index.ts').catch((cause) => {
    throw new Error('DATABASE_URL is not set, and the embedded PostgreSQL is not installed. Set DATABASE_URL.', {
      cause,
    })
  })
  const { apiUrl, ownerUrl, maintenanceUrl, release } = await openEmbedded(LOCAL_FOLDER)
  return { api: apiUrl, owner: ownerUrl, maintenance: maintenanceUrl, embedded: true, release }
}

/** Runs a piece of work on a connection of its own. */
export async function withConnection<T>(url: string, work: (db: Database) => Promise<T>): Promise<T> {
  const db = connect({ url, name: 'sluice-command', connections: 1, statementTimeoutMs: 0, onError: () => {} })
  try {
    return await work(db)
  } finally {
    await db.destroy()
  }
}

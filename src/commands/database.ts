import { fileURLToPath } from 'node:url'
import type { Config } from '../config.ts'
import { connect } from '../data/connect.ts'
import type { Database } from '../data/schema.ts'

/** What a local run keeps, in the folder of the program and ignored by git. */
export const LOCAL_FOLDER = fileURLToPath(new URL('../../.sluice', import.meta.url))

export interface DatabaseUrls {
  /** For the server: may store and read records. */
  api: string
  /** For migrations. */
  owner: string
  embedded: boolean
  release(): Promise<void>
}

/** The database of DATABASE_URL, else the embedded one, started if need be. @throws EmbeddedError */
export async function openDatabase({ DATABASE_URL }: Config): Promise<DatabaseUrls> {
  if (DATABASE_URL !== undefined) {
    return { api: DATABASE_URL, owner: DATABASE_URL, embedded: false, release: async () => {} }
  }
  // A development dependency: with a database of one's own none of it is loaded, and the image does not have it.
  const { openEmbedded } = await import('../../db/embedded/index.ts').catch((cause) => {
    throw new Error('DATABASE_URL is not set, and the embedded PostgreSQL is not installed. Set DATABASE_URL.', {
      cause,
    })
  })
  const { apiUrl, ownerUrl, release } = await openEmbedded(LOCAL_FOLDER)
  return { api: apiUrl, owner: ownerUrl, embedded: true, release }
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

/** The whole chain of a failure in one line: a connection error says why only in its cause. */
export function explain(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  // Node gives a refused connection to a name with two addresses an empty message, and the reasons beside it.
  const inner = error instanceof AggregateError ? error.errors[0] : error.cause
  const own = error.message.replace(/\.$/, '')
  return inner === undefined || own === ''
    ? own || explain(inner)
    : own.includes(explain(inner))
      ? own
      : `${own}: ${explain(inner)}`
}

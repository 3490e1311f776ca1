import { sql } from 'kysely'
import type { Database } from '../postgres/tables.ts'

export const COMMITS = 'sluice_commits'

/**
 * Tells the other instances that records were committed. Never part of the transaction that writes them: from NOTIFY to its commit, a
 * transaction holds a lock that all other notifying transactions of the server wait for (PostgreSQL's source, PreCommit_Notify).
 */
export async function notifyCommit(db: Database): Promise<void> {
  await sql`SELECT pg_notify(${COMMITS}, '')`.execute(db)
}

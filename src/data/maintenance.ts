import { sql } from 'kysely'
import type { Database } from '../postgres/tables.ts'

/** The number of an advisory lock. Any number that nothing else in this database uses. */
const RETENTION = 7_582_004

/**
 * Prepares a connection for retention and takes the lock of retention, which is released when the connection closes.
 * @returns false if another run holds the lock
 */
export async function beginRetention(session: Database): Promise<boolean> {
  const { rows } = await sql<{ alone: boolean }>`SELECT pg_try_advisory_lock(${RETENTION}) AS alone`.execute(session)
  // If a migration has locked a table, retention waits in short tries, so that it notices a SIGTERM between them.
  await sql`SET lock_timeout = '2s'`.execute(session)
  // Batches need not wait for the disk or a standby: if a crash undoes a deletion, the next run deletes the records again.
  await sql`SET synchronous_commit = off`.execute(session)
  return rows[0]?.alone === true
}

interface Rights {
  role: string
  mayDelete: boolean
  /** MAINTAIN on the table. */
  mayVacuum: boolean
  /** To update and delete rollups. */
  mayCount: boolean
}

export async function selectRights(db: Database): Promise<Rights> {
  const { rows } = await sql<Rights>`
    SELECT current_user AS role,
           -- Two calls, because one call with both names is true if the role has either privilege.
           has_table_privilege('sluice.records', 'SELECT') AND has_table_privilege('sluice.records', 'DELETE') AS "mayDelete",
           has_table_privilege('sluice.records', 'MAINTAIN') AS "mayVacuum",
           -- NULL if the migration has not run yet.
           coalesce(has_table_privilege(to_regclass('sluice.series'), 'INSERT') AND has_table_privilege(to_regclass('sluice.rollups'), 'INSERT')
             AND has_table_privilege(to_regclass('sluice.rollups'), 'DELETE')
             AND has_any_column_privilege(to_regclass('sluice.rollup_progress'), 'UPDATE'), false) AS "mayCount"`.execute(
    db,
  )
  return rows[0] as Rights
}

/** The time of the database in milliseconds. `received_at` comes from the same clock. */
export async function selectTime(db: Database): Promise<number> {
  const { rows } = await sql<{ now: string }>`SELECT extract(epoch FROM now()) * 1000 AS now`.execute(db)
  return Number(rows[0]?.now)
}

import { sql } from 'kysely'
import type { Database } from './schema.ts'

/** Any number that nobody else uses for an advisory lock in this database. */
const RETENTION = 7_582_004

/**
 * Makes of a connection one that retention works on.
 * @returns false when somebody else holds the lock that goes with it, which ends with the connection
 */
export async function beginRetention(session: Database): Promise<boolean> {
  const { rows } = await sql<{ alone: boolean }>`SELECT pg_try_advisory_lock(${RETENTION}) AS alone`.execute(session)
  // A table that a migration holds is waited for in short tries, between which a SIGTERM is noticed.
  await sql`SET lock_timeout = '2s'`.execute(session)
  // What a crash undoes is removed again by the next run; meanwhile no batch waits for the disk or for a standby.
  await sql`SET synchronous_commit = off`.execute(session)
  return rows[0]?.alone === true
}

export interface Rights {
  role: string
  mayRemove: boolean
  /** MAINTAIN on the table. */
  mayVacuum: boolean
}

export async function selectRights(db: Database): Promise<Rights> {
  const { rows } = await sql<Rights>`
    SELECT current_user AS role,
           -- Not both names in one call, which asks for either.
           has_table_privilege('sluice.records', 'SELECT') AND has_table_privilege('sluice.records', 'DELETE') AS "mayRemove",
           has_table_privilege('sluice.records', 'MAINTAIN') AS "mayVacuum"`.execute(db)
  return rows[0] as Rights
}

/** The time of the database, in milliseconds: the clock that received_at is from. */
export async function selectTime(db: Database): Promise<number> {
  const { rows } = await sql<{ now: string }>`SELECT extract(epoch FROM now()) * 1000 AS now`.execute(db)
  return Number(rows[0]?.now)
}

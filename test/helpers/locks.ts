import { type Kysely, sql } from 'kysely'
import { until } from './until.ts'

/**
 * Counts the statements that wait for a lock on this table. The database is compared as well, because in a copy of the database
 * the table has the same oid.
 */
export async function countWaiting(db: Kysely<unknown>, table: string): Promise<number> {
  const { rows } = await sql`
    SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database
    WHERE NOT granted AND relation = ${table}::regclass AND datname = current_database()`.execute(db)
  return rows.length
}

/** Resolves when at least `least` statements wait for a lock on this table. */
export const untilBlocked = (db: Kysely<unknown>, table: string, least = 1): Promise<true> =>
  until(`${least} statements to wait for ${table}`, async () => (await countWaiting(db, table)) >= least)

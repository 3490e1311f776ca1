import { type Kysely, sql } from 'kysely'
import { until } from './until.ts'

/** How many statements wait for a lock on this table of this database. In a copy of the database, the table has the same oid. */
export async function countWaiting(db: Kysely<unknown>, table: string): Promise<number> {
  const { rows } = await sql`
    SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database
    WHERE NOT granted AND relation = ${table}::regclass AND datname = current_database()`.execute(db)
  return rows.length
}

/** Resolves when at least `least` statements wait for a lock on this table. */
export const waitsFor = (db: Kysely<unknown>, table: string, least = 1): Promise<true> =>
  until(`${least} to wait for ${table}`, async () => (await countWaiting(db, table)) >= least)

import { type Kysely, sql } from 'kysely'
import { until } from './until.ts'

/** Waits until somebody waits for this table: of this database, since in its copies the table has the same number. */
export const waitsFor = (db: Kysely<unknown>, table: string): Promise<true> =>
  until(`somebody to wait for ${table}`, async () => {
    const { rows } = await sql`
      SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database
      WHERE NOT granted AND relation = ${table}::regclass AND datname = current_database()`.execute(db)
    return rows.length > 0
  })

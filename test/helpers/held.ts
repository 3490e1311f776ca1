import { sql } from 'kysely'
import type { Test } from 'tap'
import { connect } from './connect.ts'
import type { TestDatabase } from './postgres.ts'
import { until } from './until.ts'

export interface Held {
  /** Waits until this number of statements is held. */
  count(statements: number): Promise<void>
  /** Lets all statements continue, and holds no more. */
  release(): Promise<void>
}

/** Holds each statement on records that contains `text`, so that a query takes as long as the test needs. */
export async function holdStatements(t: Test, { superUrl }: TestDatabase, text: string): Promise<Held> {
  const db = connect(superUrl)
  t.teardown(() => db.destroy())
  await sql`SELECT pg_advisory_lock(hashtext('held'), oid::integer) FROM pg_database WHERE datname = current_database()`.execute(
    db,
  )
  await sql`
    CREATE FUNCTION public.wait_while_held() RETURNS boolean LANGUAGE sql VOLATILE AS $$
      SELECT pg_advisory_xact_lock_shared(hashtext('held'), oid::integer) IS NOT NULL
      FROM pg_database WHERE datname = current_database()
    $$`.execute(db)
  await sql`ALTER TABLE sluice.records ENABLE ROW LEVEL SECURITY`.execute(db)
  await sql`CREATE POLICY everything ON sluice.records USING (true) WITH CHECK (true)`.execute(db)
  await sql`
    CREATE POLICY held ON sluice.records AS RESTRICTIVE FOR SELECT
    USING (position(${sql.lit(text)} IN current_query()) = 0 OR public.wait_while_held())`.execute(db)
  return {
    count: (statements) =>
      until(`${statements} statements to be held`, async () => {
        const { rows } = await sql<{ held: number }>`
          SELECT count(*)::integer AS held FROM pg_locks AS locks JOIN pg_database ON datname = current_database()
          WHERE locktype = 'advisory' AND NOT granted AND database = pg_database.oid`.execute(db)
        return rows[0]?.held === statements
      }).then(() => {}),
    release: async () => void (await sql`SELECT pg_advisory_unlock_all()`.execute(db)),
  }
}

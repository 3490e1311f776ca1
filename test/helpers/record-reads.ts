import { type QueryExecutorProvider, sql } from 'kysely'

/**
 * How many rows of sluice.records and entries of its indexes were read so far.
 * @param sessions pools of one connection each, of which the last one asks: a session publishes its own counts when it is asked to
 */
export async function countReads(...sessions: QueryExecutorProvider[]): Promise<number> {
  for (const session of sessions) await sql`SELECT pg_stat_force_next_flush()`.execute(session)
  const { rows } = await sql<{ read: number }>`
    SELECT (SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relid = 'sluice.records'::regclass)::integer +
           (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relid = 'sluice.records'::regclass)::integer AS read`.execute(
    sessions.at(-1) as QueryExecutorProvider,
  )
  return rows[0]?.read as number
}

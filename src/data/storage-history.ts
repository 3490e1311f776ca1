import { sql } from 'kysely'
import type { Database } from '../postgres/tables.ts'

/** The space that the database used at a time. */
export interface StorageSample {
  /** In milliseconds since 1970. */
  at: number
  usedBytes: number
}

/** Older samples are deleted. */
const KEEP_DAYS = 30

/** Whether an instance has added a sample for this hour. */
export async function hasStorageSample(db: Database): Promise<boolean> {
  const { rows } = await sql`
    SELECT FROM sluice.storage_history WHERE hour = date_trunc('hour', now(), 'UTC')`.execute(db)
  return rows.length > 0
}

/** Adds a sample for this hour, unless there is one, and deletes old ones. */
export async function addStorageSample(db: Database, usedBytes: number): Promise<void> {
  await sql`
    WITH old AS (DELETE FROM sluice.storage_history WHERE hour < now() - make_interval(days => ${KEEP_DAYS}))
    INSERT INTO sluice.storage_history (hour, used_bytes) VALUES (date_trunc('hour', now(), 'UTC'), ${usedBytes})
    ON CONFLICT DO NOTHING`.execute(db)
}

/** The samples of the last `days`, oldest first. */
export async function selectStorageHistory(db: Database, days: number): Promise<StorageSample[]> {
  const { rows } = await sql<{ at: number; used: number }>`
    SELECT extract(epoch FROM hour)::float8 * 1000 AS at, used_bytes::float8 AS used FROM sluice.storage_history
    WHERE hour >= now() - make_interval(days => ${days}) ORDER BY hour`.execute(db)
  return rows.map(({ at, used }) => ({ at, usedBytes: used }))
}

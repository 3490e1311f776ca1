import { sql } from 'kysely'
import type { Database } from '../postgres/tables.ts'
import type { Seen } from './seen.ts'

/** Maximum epoch that a caller can request; see db/migrations/0007_epochs_by_start.sql. */
export const MAX_EPOCH = 2 ** 30

/**
 * Half a year, in seconds. The clock of the new host may be this far behind the clock of the previous one, and new records
 * still sort after all that the previous host wrote. The range of epochs allows 64 such leaps.
 */
const LEAP = 2 ** 24

/** At least as high as any transaction id. */
const ANY_XID = '18446744073709551615'

/**
 * Begins an epoch that is higher than all existing ones and higher than `after`. Waits for running writers.
 * @param db connected as the owner of the schema
 * @param after the epoch of a consumer's cursor, below MAX_EPOCH. From now on, cursors between the previous epoch and the
 *   new one are refused. undefined: the new epoch is far ahead of the clock
 * @returns the new epoch
 */
export async function beginEpoch(db: Database, after: number | undefined): Promise<number> {
  const minimum =
    after === undefined
      ? sql`least(extract(epoch FROM clock_timestamp() - '2025-01-01 00:00:00+00'::timestamptz), ${MAX_EPOCH})::integer + ${LEAP}::integer`
      : sql`${after}::integer`
  return db.transaction().execute(async (trx) => {
    const { rows } = await sql<{ epoch: number }>`
      SELECT sluice.current_epoch(
        greatest(${minimum}, (SELECT max(epoch) + ${after === undefined ? LEAP : 0}::integer FROM sluice.epochs)), ${ANY_XID}::xid8
      ) AS epoch
    `.execute(trx)
    const { epoch } = rows[0] as { epoch: number }
    // A consumer has a cursor that is ahead. Records that were stored since then sort before it, and may belong to an
    // earlier epoch than the last one if PostgreSQL was restarted. So all records count.
    if (after !== undefined) {
      await sql`
        UPDATE sluice.epochs SET lost_from = coalesce(lost_from, pg_snapshot_xmax(pg_current_snapshot()))
        WHERE epoch = ${epoch} AND EXISTS (SELECT FROM sluice.records)`.execute(trx)
    }
    return epoch
  })
}

/**
 * - ahead: this server has not assigned the position yet.
 * - lost: the position was assigned before the database was set back, and records were stored since then that sort before it.
 * - undefined: all records that are stored after the consumer read this position sort after it.
 */
type OffsetState = 'ahead' | 'lost' | undefined

/**
 * Whether a consumer can continue from the position of its cursor.
 * @param db the primary, which begins the epoch of its own start if no other session has; or a standby, which may lag behind
 */
export async function offsetStateOf(db: Database, { epoch, xid }: Seen, primary: boolean): Promise<OffsetState> {
  // The transaction id comes first: during a failover this server may still be a standby. Then it fails with 25006 ("try
  // again"), while current_epoch() would fail with 55000, which looks like a bug.
  const latest = primary
    ? sql`CASE WHEN pg_current_xact_id() IS NOT NULL THEN sluice.current_epoch() END`
    : sql`(SELECT coalesce(max(epoch), 0) FROM sluice.epochs)`
  const { rows } = await sql<{ ahead: boolean; lost: boolean }>`
    SELECT (${epoch}::integer, ${xid}::xid8) >= (${latest}, pg_snapshot_xmax(pg_current_snapshot())) AS ahead,
           EXISTS (
             SELECT FROM (SELECT epoch, lost_from, lag(epoch) OVER (ORDER BY epoch) AS before FROM sluice.epochs) AS begun
             WHERE lost_from IS NOT NULL AND (before, lost_from) <= (${epoch}::integer, ${xid}::xid8) AND ${epoch}::integer < epoch
           ) AS lost
  `.execute(db)
  const [{ ahead, lost }] = rows as [{ ahead: boolean; lost: boolean }]
  return ahead ? 'ahead' : lost ? 'lost' : undefined
}

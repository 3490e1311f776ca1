import { sql } from 'kysely'
import type { Database } from './schema.ts'
import type { Seen } from './seen.ts'

/** No epoch that a caller asks for is greater; see db/migrations/0007_epochs_by_start.sql. */
export const HIGHEST_EPOCH = 2 ** 30

/**
 * In seconds, half a year: how far the clock of a host may be behind that of the one before, and records still come after all
 * that were written there. For the range of epochs it is little: 64 times use it up.
 */
const LEAP = 2 ** 24

/** Of whichever transaction. */
const ANY_XID = '18446744073709551615'

/**
 * Begins an epoch, above every one that there is and above `after`. Waits for those that write now.
 * @param db as the owner of the schema
 * @param after an epoch below HIGHEST_EPOCH, of a consumer's cursor: those between the epoch before and the new one are refused
 *   from now on. undefined: far ahead of the clock
 * @returns its number
 */
export async function beginEpoch(db: Database, after: number | undefined): Promise<number> {
  const least =
    after === undefined
      ? sql`least(extract(epoch FROM clock_timestamp() - '2025-01-01 00:00:00+00'::timestamptz), ${HIGHEST_EPOCH})::integer + ${LEAP}::integer`
      : sql`${after}::integer`
  return db.transaction().execute(async (trx) => {
    const { rows } = await sql<{ epoch: number }>`
      SELECT sluice.current_epoch(
        greatest(${least}, (SELECT max(epoch) + ${after === undefined ? LEAP : 0}::integer FROM sluice.epochs)), ${ANY_XID}::xid8
      ) AS epoch
    `.execute(trx)
    const { epoch } = rows[0] as { epoch: number }
    // Somebody holds a cursor that is ahead. The records that were stored before it since may be in an earlier epoch than the
    // last, if PostgreSQL was started again.
    if (after !== undefined) {
      await sql`
        UPDATE sluice.epochs SET lost_from = coalesce(lost_from, pg_snapshot_xmax(pg_current_snapshot()))
        WHERE epoch = ${epoch} AND EXISTS (SELECT FROM sluice.records)`.execute(trx)
    }
    return epoch
  })
}

/**
 * ahead: not given out yet, as far as this server knows. lost: given out by a life of the database that is lost, and records
 * were stored before it since then. undefined: whatever is stored after the consumer read this position comes after it.
 */
export type Standing = 'ahead' | 'lost' | undefined

/**
 * How a position that a consumer holds stands to this database.
 * @param db the primary, which begins the epoch of its start if nobody has yet; or a standby, which may lag behind
 */
export async function standingOf(db: Database, { epoch, xid }: Seen, primary: boolean): Promise<Standing> {
  // The number first: during a failover this may be a standby still. It says so (25006, "try again"), and the function fails
  // with what looks like a defect (55000).
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

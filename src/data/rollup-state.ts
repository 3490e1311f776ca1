import { sql } from 'kysely'
import type { Database } from '../postgres/tables.ts'
import { inFeedOrder } from './listing.ts'

export interface RollupState {
  /** Age of the oldest record that `live` has not counted, in seconds; 0 if there is none. */
  lagSeconds: number
  /** undefined if the backfill is complete. */
  backfill: Backfill | undefined
  /** Whether records were counted that have no series of their own. */
  isLimited: boolean
}

interface Backfill {
  records: number
  /** Of all records to count. Until PostgreSQL has analyzed the table, nobody knows how many there are. */
  estimate: number | undefined
}

/** Which share is done, from 0 to 1; null: all. */
export const shareOf = (backfill: Backfill | undefined): number | null =>
  backfill === undefined
    ? null
    : Math.min(1, backfill.records / Math.max(1, backfill.estimate ?? Number.POSITIVE_INFINITY))

export async function selectRollupState(db: Database): Promise<RollupState> {
  const { rows } = await sql<{
    lag: number
    is_complete: boolean
    records: string
    estimate: number | null
    is_limited: boolean
  }>`
    SELECT CASE WHEN next.received_at IS NULL THEN 0
                -- After a failover to a slower clock, a record can be from the future, and it is not counted either.
                ELSE greatest(0.001, extract(epoch FROM now() - next.received_at)) END::float8 AS lag,
           (backfill.epoch, backfill.xid, backfill.n) >= (backfill.until_epoch, backfill.until_xid, backfill.until_n) AS is_complete,
           backfill.records::text,
           -- reltuples is -1 until the first ANALYZE or VACUUM.
           (SELECT greatest(backfill.records, reltuples - live.records) FROM pg_class
            WHERE oid = 'sluice.records'::regclass AND reltuples >= 0)::float8 AS estimate,
           live.folded > 0 OR backfill.folded > 0 AS is_limited
    FROM sluice.rollup_progress AS backfill, sluice.rollup_progress AS live
    LEFT JOIN LATERAL (
      SELECT received_at FROM sluice.records
      WHERE (epoch, xid, n) > (live.epoch, live.xid, live.n) ${inFeedOrder('records', 'asc')} LIMIT 1
    ) AS next ON true
    WHERE backfill.part = 'backfill' AND live.part = 'live'`.execute(db)
  const [{ lag, is_complete, records, estimate, is_limited }] = rows as [(typeof rows)[0] & object]
  const share = { records: Number(records), estimate: estimate === null ? undefined : Math.round(estimate) }
  return { lagSeconds: lag, backfill: is_complete ? undefined : share, isLimited: is_limited }
}

import { sql } from 'kysely'
import type { Database } from '../postgres/tables.ts'
import {
  BYTES,
  type PositionColumns,
  positionRow,
  type Selection,
  selects,
  type TextPosition,
  toPosition,
} from './deletable.ts'

/** What one step down the feed found. */
interface CutoffStep {
  /** How many records it read, selected or not, and the position of the last one. */
  seen: number
  last: TextPosition | undefined
  /** Number and size of the selected ones among them. */
  records: number
  bytes: number
  /** The newest record that exceeds one of the limits. */
  cutoff: TextPosition | undefined
}

/**
 * Reads up to `limit` records before the position `below`, newest first. Finds the record with which the selected ones exceed
 * `maxCount` or `maxBytes`. Both may be Infinity.
 */
export async function stepToCutoff(
  db: Database,
  selection: Selection,
  { below, limit, maxCount, maxBytes }: { below: TextPosition; limit: number; maxCount: number; maxBytes: number },
): Promise<CutoffStep> {
  const { rows } = await sql<{
    seen: string
    last: PositionColumns | null
    records: string
    bytes: string
    cutoff: PositionColumns | null
  }>`
    WITH candidates AS MATERIALIZED (
      SELECT epoch, xid, n, ${BYTES} AS bytes, ${selects(selection)} AS selected
      FROM sluice.records WHERE (epoch, xid, n) < ${positionRow(below)}
      ORDER BY epoch DESC, xid DESC, n DESC LIMIT ${limit}
    ), counted AS (
      SELECT epoch, xid, n, count(*) OVER down AS records, sum(bytes) OVER down AS bytes
      FROM candidates WHERE selected
      WINDOW down AS (ORDER BY epoch DESC, xid DESC, n DESC ROWS UNBOUNDED PRECEDING)
    )
    SELECT (SELECT count(*) FROM candidates) AS seen,
           (SELECT ARRAY[epoch::text, xid::text, n::text] FROM candidates ORDER BY epoch, xid, n LIMIT 1) AS last,
           (SELECT count(*) FROM counted) AS records,
           (SELECT coalesce(max(bytes), 0) FROM counted) AS bytes,
           (SELECT ARRAY[epoch::text, xid::text, n::text] FROM counted
            WHERE records > ${maxCount}::numeric OR bytes > ${maxBytes}::numeric
            ORDER BY epoch DESC, xid DESC, n DESC LIMIT 1) AS cutoff
  `.execute(db)
  const [{ seen, last, records, bytes, cutoff } = { seen: 0, last: null, records: 0, bytes: 0, cutoff: null }] = rows
  return {
    seen: Number(seen),
    last: toPosition(last),
    records: Number(records),
    bytes: Number(bytes),
    cutoff: toPosition(cutoff),
  }
}

import { sql } from 'kysely'
import { BYTES, type Place, place, type Selection, selects, toPlace } from './removable.ts'
import type { Database } from './schema.ts'

/** What the next records downwards hold. */
export interface Look {
  /** How many were looked at, selected or not, and the last of them. */
  seen: number
  last: Place | undefined
  /** Of those that are selected. */
  records: number
  bytes: number
  /** The newest with which one of the limits is passed. */
  edge: Place | undefined
}

/**
 * Looks at up to `limit` records below a place, from there downwards, for the one with which the selected ones become
 * more than `maxCount` or take more than `maxBytes`; both may be Infinity.
 */
export async function lookDown(
  db: Database,
  selection: Selection,
  { below, limit, maxCount, maxBytes }: { below: Place; limit: number; maxCount: number; maxBytes: number },
): Promise<Look> {
  const { rows } = await sql<{
    seen: string
    last: string[] | null
    records: string
    bytes: string
    edge: string[] | null
  }>`
    WITH looked AS MATERIALIZED (
      SELECT epoch, xid, n, ${BYTES} AS bytes, ${selects(selection)} AS selected
      FROM sluice.records WHERE (epoch, xid, n) < ${place(below)}
      ORDER BY epoch DESC, xid DESC, n DESC LIMIT ${limit}
    ), counted AS (
      SELECT epoch, xid, n, count(*) OVER down AS records, sum(bytes) OVER down AS bytes
      FROM looked WHERE selected
      WINDOW down AS (ORDER BY epoch DESC, xid DESC, n DESC ROWS UNBOUNDED PRECEDING)
    )
    SELECT (SELECT count(*) FROM looked) AS seen,
           (SELECT ARRAY[epoch::text, xid::text, n::text] FROM looked ORDER BY epoch, xid, n LIMIT 1) AS last,
           (SELECT count(*) FROM counted) AS records,
           (SELECT coalesce(max(bytes), 0) FROM counted) AS bytes,
           (SELECT ARRAY[epoch::text, xid::text, n::text] FROM counted
            WHERE records > ${maxCount}::numeric OR bytes > ${maxBytes}::numeric
            ORDER BY epoch DESC, xid DESC, n DESC LIMIT 1) AS edge
  `.execute(db)
  const [{ seen, last, records, bytes, edge } = { seen: 0, last: null, records: 0, bytes: 0, edge: null }] = rows
  return {
    seen: Number(seen),
    last: toPlace(last),
    records: Number(records),
    bytes: Number(bytes),
    edge: toPlace(edge),
  }
}

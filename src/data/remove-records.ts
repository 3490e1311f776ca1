import { type RawBuilder, sql } from 'kysely'
import { BYTES, isRemovable, type Place, place, type Removal, toPlace } from './removable.ts'
import type { Database } from './schema.ts'

/** Records that a policy removes. */
export interface Share {
  /** Its index among the policies. */
  policy: number
  records: number
  bytes: number
  /** When the first and the last of them were received; RFC 3339 of one length, so that text sorts as time does. */
  oldest: string
  newest: string
}

const rfc3339 = (time: RawBuilder<unknown>) => sql`to_char(${time}, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`

export interface Batch {
  /** How many were looked at, and the last of them; undefined: there was none. */
  seen: number
  last: Place | undefined
  /** Of those that were looked at, the one that was received first. */
  oldest: string | null
  /** What was removed; in a dry run, what would have been. */
  records: number
  bytes: number
  /** What each policy says, for itself: two may say the same record. Those that say none are left out. */
  shares: Share[]
}

export interface BatchBounds {
  after: Place
  /** The end, which is not included. */
  until: Place
  /** Most records to look at. */
  limit: number
  /** The batch ends before a record with which it would remove more bytes than these; it has one record at least. */
  maxBytes: number
}

/**
 * Looks at the next records upwards and removes those that any of the policies says, in one statement and so in one
 * transaction.
 */
export async function removeBatch(
  db: Database,
  removals: readonly Removal[],
  { after, until, limit, maxBytes }: BatchBounds,
  { dryRun }: { dryRun: boolean },
): Promise<Batch> {
  const said = sql`ARRAY[${sql.join(removals.map(isRemovable))}]`
  // By address: the planner can do nothing with it but go there. The address of a row that this statement sees is not
  // given to another one before it ends.
  const remove = dryRun
    ? sql`SELECT bytes FROM batch WHERE removable`
    : sql`DELETE FROM sluice.records WHERE ctid = ANY (ARRAY(SELECT address FROM batch WHERE removable)) RETURNING ${BYTES} AS bytes`
  const { rows } = await sql<
    Record<'seen' | 'records' | 'bytes' | 'shares', string> & { last: string[] | null; oldest: string | null }
  >`
    WITH looked AS MATERIALIZED (
      SELECT ctid AS address, epoch, xid, n, received_at, ${BYTES} AS bytes, ${said} AS said
      FROM sluice.records WHERE (epoch, xid, n) > ${place(after)} AND (epoch, xid, n) < ${place(until)}
      ORDER BY epoch, xid, n LIMIT ${limit}
    ), measured AS (
      SELECT *, true = ANY (said) AS removable, row_number() OVER up AS place,
             coalesce(sum(bytes) FILTER (WHERE true = ANY (said)) OVER up, 0) AS running
      FROM looked WINDOW up AS (ORDER BY epoch, xid, n ROWS UNBOUNDED PRECEDING)
    ), batch AS MATERIALIZED (
      SELECT * FROM measured WHERE place = 1 OR running <= ${maxBytes}
    ), removed AS (
      ${remove}
    ), shares AS (
      SELECT policy - 1 AS policy, count(*) AS records, sum(bytes) AS bytes,
             ${rfc3339(sql`min(received_at)`)} AS oldest, ${rfc3339(sql`max(received_at)`)} AS newest
      FROM batch, unnest(said) WITH ORDINALITY AS each (says, policy) WHERE says GROUP BY policy
    )
    SELECT (SELECT count(*) FROM batch) AS seen,
           (SELECT ARRAY[epoch::text, xid::text, n::text] FROM batch ORDER BY place DESC LIMIT 1) AS last,
           (SELECT ${rfc3339(sql`min(received_at)`)} FROM batch) AS oldest,
           (SELECT count(*) FROM removed) AS records,
           (SELECT coalesce(sum(bytes), 0) FROM removed) AS bytes,
           (SELECT coalesce(json_agg(shares ORDER BY policy), '[]') FROM shares) AS shares
  `.execute(db)
  const row = rows[0] as (typeof rows)[number]
  return {
    seen: Number(row.seen),
    last: toPlace(row.last),
    oldest: row.oldest,
    records: Number(row.records),
    bytes: Number(row.bytes),
    // json arrives as text on these connections: see Tables.
    shares: JSON.parse(row.shares) as Share[],
  }
}

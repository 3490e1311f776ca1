import { type RawBuilder, sql } from 'kysely'
import type { Database } from '../postgres/tables.ts'
import {
  BYTES,
  type Deletion,
  isDeletable,
  type PositionColumns,
  positionRow,
  type TextPosition,
  toPosition,
} from './deletable.ts'

/** The records that one policy deletes. */
export interface Share {
  /** Index of the policy. */
  policy: number
  records: number
  bytes: number
  /** When the first and the last of them were received. RFC 3339 in a fixed length, so that the text sorts like the time. */
  oldest: string
  newest: string
}

const rfc3339 = (time: RawBuilder<unknown>) => sql`to_char(${time}, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`

export interface DeletedBatch {
  /** How many records were read, and the position of the last one; undefined: none was read. */
  seen: number
  last: TextPosition | undefined
  /** When the oldest of the records that were read was received. */
  oldest: string | null
  /** What was deleted, or in a dry run what would have been deleted. */
  records: number
  bytes: number
  /** What each policy deletes. Two policies may delete the same record. Policies that delete nothing are left out. */
  shares: Share[]
}

export interface BatchBounds {
  after: TextPosition
  /** The batch ends before this position. */
  until: TextPosition
  /** Maximum number of records to read. */
  limit: number
  /** The batch ends before a record with which it would delete more than this. It has at least one record. */
  maxBytes: number
}

/**
 * Reads the next records in feed order and deletes those that any policy selects, in one statement and so in one transaction.
 */
export async function deleteBatch(
  db: Database,
  deletions: readonly Deletion[],
  { after, until, limit, maxBytes }: BatchBounds,
  { dryRun }: { dryRun: boolean },
): Promise<DeletedBatch> {
  const matches = sql`ARRAY[${sql.join(deletions.map(isDeletable))}]`
  // Rows are deleted by ctid, because the planner can then only fetch them directly. The ctid of a row that this statement sees
  // is not reused before the statement ends.
  const deleteRows = dryRun
    ? sql`SELECT bytes FROM batch WHERE deletable`
    : sql`DELETE FROM sluice.records WHERE ctid = ANY (ARRAY(SELECT address FROM batch WHERE deletable)) RETURNING ${BYTES} AS bytes`
  const { rows } = await sql<
    Record<'seen' | 'records' | 'bytes' | 'shares', string> & { last: PositionColumns | null; oldest: string | null }
  >`
    WITH candidates AS MATERIALIZED (
      SELECT ctid AS address, epoch, xid, n, received_at, ${BYTES} AS bytes, ${matches} AS matches
      FROM sluice.records WHERE (epoch, xid, n) > ${positionRow(after)} AND (epoch, xid, n) < ${positionRow(until)}
      ORDER BY epoch, xid, n LIMIT ${limit}
    ), measured AS (
      SELECT *, true = ANY (matches) AS deletable, row_number() OVER up AS ordinal,
             coalesce(sum(bytes) FILTER (WHERE true = ANY (matches)) OVER up, 0) AS running
      FROM candidates WINDOW up AS (ORDER BY epoch, xid, n ROWS UNBOUNDED PRECEDING)
    ), batch AS MATERIALIZED (
      SELECT * FROM measured WHERE ordinal = 1 OR running <= ${maxBytes}
    ), deleted AS (
      ${deleteRows}
    ), shares AS (
      SELECT policy - 1 AS policy, count(*) AS records, sum(bytes) AS bytes,
             ${rfc3339(sql`min(received_at)`)} AS oldest, ${rfc3339(sql`max(received_at)`)} AS newest
      FROM batch, unnest(matches) WITH ORDINALITY AS each (matched, policy) WHERE matched GROUP BY policy
    )
    SELECT (SELECT count(*) FROM batch) AS seen,
           (SELECT ARRAY[epoch::text, xid::text, n::text] FROM batch ORDER BY ordinal DESC LIMIT 1) AS last,
           (SELECT ${rfc3339(sql`min(received_at)`)} FROM batch) AS oldest,
           (SELECT count(*) FROM deleted) AS records,
           (SELECT coalesce(sum(bytes), 0) FROM deleted) AS bytes,
           (SELECT coalesce(json_agg(shares ORDER BY policy), '[]') FROM shares) AS shares
  `.execute(db)
  const row = rows[0] as (typeof rows)[number]
  return {
    seen: Number(row.seen),
    last: toPosition(row.last),
    oldest: row.oldest,
    records: Number(row.records),
    bytes: Number(row.bytes),
    // json arrives as text on these connections: see Tables.
    shares: JSON.parse(row.shares) as Share[],
  }
}

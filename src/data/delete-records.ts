import { type RawBuilder, sql } from 'kysely'
import type { Database } from '../postgres/tables.ts'
import {
  BYTES,
  type Deletion,
  isOverLimit,
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

/** The statement has the position of the last consumer as `lowest`; without consumers, it is empty. */
const isDeletable = (deletion: Deletion) =>
  deletion.keepForConsumers
    ? sql`(${isOverLimit(deletion)} AND ((epoch, xid, n) > (SELECT epoch, xid, n FROM lowest)) IS NOT TRUE)`
    : isOverLimit(deletion)

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
  /** How many of the records that were read stay only because a consumer has not read them. */
  kept: number
  /** Up to where every consumer has read; undefined: there are no consumers. */
  readByAll: TextPosition | undefined
  /** The names of consumers that had not read all deleted records. A run returns each of them once, a dry run in each batch. */
  overtaken: string[]
}

interface BatchOptions {
  dryRun: boolean
  /** When the run began, in PostgreSQL's text form. A consumer that was marked since then is not marked again. */
  begun: string
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
 * Consumers that have not read one of them are marked in the same transaction (in a dry run, they are only returned).
 *
 * Where the consumers are is read by the same statement. So a batch keeps the records that a consumer has not read, if the consumer
 * was stored there before the batch began. One that is created or moved back during the batch is treated as if it came after it.
 */
export async function deleteBatch(
  db: Database,
  deletions: readonly Deletion[],
  { after, until, limit, maxBytes }: BatchBounds,
  { dryRun, begun }: BatchOptions,
): Promise<DeletedBatch> {
  const matches = sql`ARRAY[${sql.join(deletions.map(isDeletable))}]`
  const waiting = deletions.filter(({ keepForConsumers }) => keepForConsumers).map(isOverLimit)
  // Rows are deleted by ctid, because the planner can then only fetch them directly. The ctid of a row that this statement sees
  // is not reused before the statement ends.
  const deleteRows = dryRun
    ? sql`SELECT bytes FROM batch WHERE deletable`
    : sql`DELETE FROM sluice.records WHERE ctid = ANY (ARRAY(SELECT address FROM batch WHERE deletable)) RETURNING ${BYTES} AS bytes`
  // The last deleted record decides: a consumer that is before it has not read it.
  const isMissed = sql`(epoch, xid, n) < (SELECT epoch, xid, n FROM batch WHERE deletable ORDER BY ordinal DESC LIMIT 1)`
  const markMissed = dryRun
    ? sql`SELECT name FROM sluice.consumers WHERE ${isMissed}`
    : sql`UPDATE sluice.consumers SET overtaken_at = now()
          WHERE ${isMissed} AND (overtaken_at IS NULL OR overtaken_at < ${begun}::timestamptz) RETURNING name`
  const { rows } = await sql<
    Record<'seen' | 'records' | 'bytes' | 'shares' | 'kept', string> & {
      last: PositionColumns | null
      read_by_all: PositionColumns | null
      oldest: string | null
      overtaken: string[]
    }
  >`
    WITH lowest AS MATERIALIZED (
      SELECT epoch, xid, n FROM sluice.consumers ORDER BY epoch, xid, n LIMIT 1
    ), candidates AS MATERIALIZED (
      SELECT ctid AS address, epoch, xid, n, received_at, ${BYTES} AS bytes, ${matches} AS matches,
             true = ANY (ARRAY[${sql.join(waiting)}]::boolean[]) AS waits
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
    ), missed AS (
      ${markMissed}
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
           (SELECT count(*) FROM batch WHERE waits AND deletable IS NOT TRUE) AS kept,
           (SELECT ARRAY[epoch::text, xid::text, n::text] FROM lowest) AS read_by_all,
           ARRAY(SELECT name FROM missed ORDER BY name) AS overtaken,
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
    kept: Number(row.kept),
    readByAll: toPosition(row.read_by_all),
    overtaken: row.overtaken,
  }
}

import { sql } from 'kysely'
import { decodeOffset, type Position } from '../lib/offset.ts'
import { readRows } from '../postgres/read-rows.ts'
import type { Database } from '../postgres/tables.ts'
import { HORIZON, inFeedOrder, isAfter, isAt, matches, type RecordFilter, SETTLED } from './listing.ts'
import { LINE, LINE_SIZE, lastOffset, MIN_LINE_SIZE, STORED_SIZE } from './record-line.ts'

/** Before the first record. */
export const START: Position = { epoch: 0, xid: '0', n: 0 }

/**
 * How many records a statement examines for a filter. Without this bound, a reader whose filter matches hardly any record would
 * wait for a statement that reads the whole table, and that READ_TIMEOUT_SECONDS cancels before the reader has moved on.
 */
const EXAMINED = 10_000

export interface FeedRequest {
  filter: RecordFilter
  /** Only records after this position. */
  after: Position
  limit: number
  /** The page ends before a record with which it would exceed about this size. It may have one record that is larger. */
  maxBytes: number
}

interface FeedLines {
  /** Each record as JSON, and a newline. */
  lines: string
  /** Where to continue: all matching records up to here are in the page. */
  next: Position
  /** Whether `next` is the head. */
  upToDate: boolean
  /** Whether the record at the position of the request is the head. Then that position is one of this database. */
  isHead: boolean
}

interface HeadRow {
  head_epoch: number | null
  head_xid: string
  head_n: string
}

interface FeedRow extends HeadRow {
  /** The records of the page; null if there are none. */
  lines: string | null
  /** Whether another record follows them. */
  more: boolean
  examined_epoch: number | null
  examined_xid: string
  examined_n: string
}

const HEAD = sql`LATERAL (
  SELECT epoch, xid, n FROM sluice.records WHERE ${SETTLED} ORDER BY epoch DESC, xid DESC, n DESC LIMIT 1
) AS head`
const HEAD_COLUMNS = sql`head.epoch AS head_epoch, head.xid::text AS head_xid, head.n::text AS head_n`

/** The position of the last record before every transaction that could still add one; START if there is none. */
export async function selectHead(db: Database, signal: AbortSignal): Promise<Position> {
  let head = START
  const query = sql<HeadRow>`SELECT ${HEAD_COLUMNS} FROM (${HORIZON}) AS horizon LEFT JOIN ${HEAD} ON true`
  await readRows(db, query, signal, (row) => {
    head = headOf(row)
  })
  return head
}

/** Whether the record at this position is stored. START counts as stored. @throws the reason of `signal` */
export async function hasPosition(db: Database, position: Position, signal: AbortSignal): Promise<boolean> {
  let found = position.epoch === START.epoch
  const query = sql`SELECT FROM sluice.records WHERE ${isAt(position)}`
  await readRows(db, query, signal, () => {
    found = true
  })
  return found
}

const headOf = ({ head_epoch, head_xid, head_n }: HeadRow): Position =>
  head_epoch === null ? START : { epoch: head_epoch, xid: head_xid, n: Number(head_n) }

/**
 * Reads a page of the feed. One statement reads the records and the head, so both come from one snapshot: between the last record
 * of a page and the head, nothing is missing.
 *
 * The head is the last record before every transaction that could still add one. Positions of records do not change when other
 * transactions run, so a reader that is up to date gets the same offset again. If retention has deleted the last records, the head
 * stays where the reader is.
 * @throws the reason of `signal`
 */
export async function readFeed(db: Database, request: FeedRequest, signal: AbortSignal): Promise<FeedLines> {
  const { filter, after, maxBytes } = request
  // No record is smaller, so more than these are not fetched to be measured.
  const limit = Math.min(request.limit, Math.ceil(maxBytes / MIN_LINE_SIZE))
  // `n` is never negative, so the second position is before all records of the oldest running transaction.
  const listed = sql<boolean>`${matches(filter)} AND ${isAfter(after)} AND (epoch, xid, n) <= (
    coalesce(examined.epoch, horizon.epoch), coalesce(examined.xid, horizon.xid), coalesce(examined.n, -1)
  )`
  // The sizes are summed up before the payloads are written. So a page of large records takes about `maxBytes` of memory, here and
  // in the server, and not a thousand times the largest record. PostgreSQL has to fetch a payload to measure it, so records that
  // cannot fit are left out first.
  const query = sql<FeedRow>`
    SELECT page.*, ${HEAD_COLUMNS},
           examined.epoch AS examined_epoch, examined.xid::text AS examined_xid, examined.n::text AS examined_n
    FROM (${HORIZON}) AS horizon
    LEFT JOIN ${HEAD} ON true
    LEFT JOIN LATERAL (
      SELECT epoch, xid, n FROM sluice.records WHERE ${isAfter(after)} AND ${SETTLED}
      ORDER BY epoch, xid, n OFFSET ${EXAMINED - 1} LIMIT ${isFiltered(filter) ? 1 : 0}
    ) AS examined ON true
    LEFT JOIN LATERAL (
      SELECT string_agg(${LINE}, '' ${inFeedOrder('measured', 'asc')}) FILTER (WHERE fits) AS lines, NOT bool_and(fits) AS more
      FROM (
        SELECT *, ordinal = 1 OR (ordinal <= ${limit} AND bytes <= ${maxBytes}) AS fits
        FROM (
          SELECT *, row_number() OVER running AS ordinal, sum(${LINE_SIZE}) OVER running AS bytes
          FROM (
            SELECT *, row_number() OVER before AS number, sum(${STORED_SIZE}) OVER before AS stored
            FROM (
              SELECT * FROM sluice.records WHERE ${listed} ${inFeedOrder('records', 'asc')} LIMIT ${limit + 1}
            ) AS found
            WINDOW before AS (${inFeedOrder('found', 'asc')} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
          ) AS candidates
          -- The second one always stays: if the first is larger than a page, it shows that there are more.
          WHERE number <= 2 OR stored <= ${maxBytes}
          WINDOW running AS (${inFeedOrder('candidates', 'asc')} ROWS UNBOUNDED PRECEDING)
        ) AS summed
      ) AS measured
    ) AS page ON true
  `
  let read: FeedRow | undefined
  await readRows(db, query, signal, (row) => {
    read = row
  })
  const { lines: found, more, ...row } = read as unknown as FeedRow
  const lines = found ?? ''
  if (more) return { lines, next: decodeOffset(lastOffset(lines)) as Position, upToDate: false, isHead: false }
  if (row.examined_epoch !== null) {
    const { examined_epoch: epoch, examined_xid: xid, examined_n: n } = row
    return { lines, next: { epoch, xid, n: Number(n) }, upToDate: false, isHead: false }
  }
  const head = headOf(row)
  const order = compare(head, after)
  return { lines, next: order < 0 ? after : head, upToDate: true, isHead: order === 0 }
}

const isFiltered = ({ allowedPrefixes, ...others }: RecordFilter) =>
  allowedPrefixes.length > 0 || Object.values(others).some((value) => value !== undefined)

const compare = (one: Position, other: Position) =>
  one.epoch - other.epoch || Number(BigInt(one.xid) - BigInt(other.xid)) || one.n - other.n

import { type RawBuilder, type Selectable, sql } from 'kysely'
import type { Position } from '../lib/cursor.ts'
import { readRows } from '../postgres/read-rows.ts'
import type { Database, Tables } from '../postgres/tables.ts'
import { isAllowed } from './allowed-sources.ts'

/** A record of the table. Times, 64-bit numbers and JSON are PostgreSQL's text. */
export type StoredRecord = Omit<Selectable<Tables['sluice.records']>, 'data_bytes'> & { data_base64: string | null }

export interface RecordFilter {
  source?: string | undefined
  id?: string | undefined
  sourcePrefix?: string | undefined
  /** The source prefixes of the key (lib/source-prefix.ts); empty: all sources. */
  allowedPrefixes: readonly string[]
  type?: string | undefined
  subject?: string | undefined
  /** Times in UTC. `From` is inclusive, `Until` is exclusive. */
  timeFrom?: string | undefined
  timeUntil?: string | undefined
  receivedFrom?: string | undefined
  receivedUntil?: string | undefined
  /** JSON text that the data must contain (jsonb's @>). */
  data?: string | undefined
}

/** A limit in the feed. No new row will appear before it. */
interface Horizon {
  epoch: number
  xid: string
}

export interface PageRequest {
  filter: RecordFilter
  order: 'asc' | 'desc'
  /** Position of the last record of the previous page. */
  after: Position | undefined
  /** Only for ascending order: where the page ends. Absent: at the end of the feed at the time of the query. */
  until: Horizon | undefined
  limit: number
  /** The page ends before a record with which it would exceed this size. It has at least one record. */
  maxBytes: number
}

const COLUMNS = sql`epoch, xid, n, received_at, "time", source, id, type, subject, dataschema, datacontenttype, extensions, data, data_bytes`

/** `data` and times are returned as text, bytes as base64 without the line breaks that encode() inserts. */
const OUTPUT = sql`epoch, xid::text AS xid, n::text AS n, received_at, "time", source, id, type, subject, dataschema, datacontenttype,
  extensions, data::text AS data, translate(encode(data_bytes, 'base64'), E'\n', '') AS data_base64`

/** @param signal cancels the statement. @throws the reason of `signal` */
export async function selectRecord(
  db: Database,
  source: string,
  id: string,
  signal?: AbortSignal,
): Promise<StoredRecord | undefined> {
  let record: StoredRecord | undefined
  const query = sql<StoredRecord>`SELECT ${OUTPUT} FROM sluice.records WHERE source = ${source} AND id = ${id}`
  await readRows(db, query, signal, (row) => {
    record = row
  })
  return record
}

/**
 * The size of a record as JSON in bytes, without escapes. 512 bytes are for the names of the fields, the times and the cursor.
 */
const SIZE = sql`512 + octet_length(source) + octet_length(id) + octet_length(type)
  + ${sql.join(
    ['subject', 'dataschema', 'datacontenttype', 'extensions', 'data'].map(
      (column) => sql`coalesce(octet_length(${sql.ref(column)}::text), 0)`,
    ),
    sql` + `,
  )} + coalesce((octet_length(data_bytes) + 2) / 3 * 4, 0)`

/**
 * Reads a page in feed order, or in reverse. The query looks for one record more than the limit: `more` says whether there is
 * a next page.
 * @param onRow gets each record as it arrives, and the approximate size of the whole page as JSON. If it throws or `signal`
 *   aborts, the statement is cancelled
 * @returns the position of the last record, and not the record, which would keep its payload in memory
 * @throws the reason of `signal`; what `onRow` throws
 */
export async function selectPage(
  db: Database,
  page: PageRequest,
  signal: AbortSignal,
  onRow: (record: StoredRecord, pageBytes: number) => void,
): Promise<{ last: Position | undefined; more: boolean }> {
  const { limit, maxBytes } = page
  const direction = page.order === 'asc' ? sql`ASC` : sql`DESC`
  // With the table name: a bare `xid` or `n` would mean the output column, which is text, and as text 10 sorts before 9.
  const ordered = (of: 'records' | 'candidates' | 'measured') => {
    const by = (column: string) => sql`${sql.ref(`${of}.${column}`)} ${direction}`
    return sql`ORDER BY ${by('epoch')}, ${by('xid')}, ${by('n')}`
  }
  // The sizes are summed up before the payloads are fetched. So a page of large records takes about `maxBytes` of memory, here
  // and in the server, and not a thousand times the largest record.
  const query = sql<StoredRecord & { found: number; page_bytes: number }>`
    SELECT ${OUTPUT}, found::integer, (max(bytes) OVER ())::float8 AS page_bytes
    FROM (
      SELECT *, row_number() OVER running AS ordinal, count(*) OVER () AS found, sum(${SIZE}) OVER running AS bytes
      FROM (
        SELECT ${COLUMNS} FROM sluice.records WHERE ${sql.join(conditions(page), sql` AND `)}
        ${ordered('records')} LIMIT ${limit + 1}
      ) AS candidates
      WINDOW running AS (${ordered('candidates')} ROWS UNBOUNDED PRECEDING)
    ) AS measured
    WHERE ordinal = 1 OR (ordinal <= ${limit} AND bytes <= ${maxBytes})
    ${ordered('measured')}
  `
  let [count, found] = [0, 0]
  let last: Position | undefined
  await readRows(db, query, signal, (row) => {
    onRow(row, row.page_bytes)
    count++
    found = row.found
    last = { epoch: row.epoch, xid: row.xid, n: Number(row.n) }
  })
  return { last, more: found > count }
}

function conditions({ filter: f, order, after, until }: PageRequest): RawBuilder<unknown>[] {
  const all = [sql`true`]
  const add = (value: unknown, condition: RawBuilder<unknown>) => void (value !== undefined && all.push(condition))

  add(f.source, sql`source = ${f.source}`)
  add(f.id, sql`id = ${f.id}`)
  // ^@ means "starts with". On a column with collation "C" it can use the index on the identity.
  add(f.sourcePrefix, sql`source ^@ ${f.sourcePrefix}`)
  if (f.allowedPrefixes.length > 0) all.push(isAllowed(f.allowedPrefixes))
  add(f.type, sql`type = ${f.type}`)
  add(f.subject, sql`subject = ${f.subject}`)
  add(f.timeFrom, sql`coalesce("time", received_at) >= ${f.timeFrom}::timestamptz`)
  add(f.timeUntil, sql`coalesce("time", received_at) < ${f.timeUntil}::timestamptz`)
  add(f.receivedFrom, sql`received_at >= ${f.receivedFrom}::timestamptz`)
  add(f.receivedUntil, sql`received_at < ${f.receivedUntil}::timestamptz`)
  add(f.data, sql`data::jsonb @> ${f.data}::jsonb`)
  if (after !== undefined) {
    const operator = order === 'asc' ? sql`>` : sql`<`
    all.push(sql`(epoch, xid, n) ${operator} (${after.epoch}::integer, ${after.xid}::xid8, ${after.n}::bigint)`)
  }
  if (order === 'asc')
    all.push(until === undefined ? settled : sql`(epoch, xid) < (${until.epoch}::integer, ${until.xid}::xid8)`)
  return all
}

/**
 * The lowest running transaction that could still add a row, or the next transaction id if none is running. pg_snapshot_xmin()
 * would be correct, but it includes transactions of other databases of the server, which may run for a long time. They are
 * skipped if pg_stat_activity shows that they run in another database. A transaction that it does not show (it has just ended,
 * or is prepared) counts. A standby does not list running transactions, so there it is xmin, which is the next transaction id
 * if none is running (PostgreSQL manual, 9.28.7 Transaction ID and Snapshot Information Functions).
 *
 * This is sound because the snapshot is older than the rows of pg_stat_activity: if a backend is in a transaction of the snapshot
 * now, it was in this transaction, and in the same database, the whole time.
 */
const OLDEST_RUNNING = sql`(SELECT coalesce(
  (SELECT min(running) FROM pg_snapshot_xip(pg_current_snapshot()) AS running WHERE NOT EXISTS (
    SELECT FROM pg_stat_activity WHERE backend_xid = running::xid AND datname <> current_database()
  )),
  CASE WHEN EXISTS (SELECT FROM pg_snapshot_xip(pg_current_snapshot())) THEN pg_snapshot_xmax(pg_current_snapshot())
       ELSE pg_snapshot_xmin(pg_current_snapshot()) END
))`

/**
 * Rows before every transaction that could still add a row. So no row can later appear before the cursor of a reader that follows
 * the feed. (All rows of earlier epochs are visible.)
 */
const settled = sql`(xid < ${OLDEST_RUNNING} OR epoch < (SELECT max(epoch) FROM sluice.epochs))`

/** The current end of `settled`, to use for several pages. @param signal cancels the statement. @throws the reason of `signal` */
export async function selectHorizon(db: Database, signal?: AbortSignal): Promise<Horizon> {
  let horizon: Horizon | undefined
  const query = sql<Horizon>`
    SELECT coalesce(max(epoch), 0) AS epoch, ${OLDEST_RUNNING}::text AS xid FROM sluice.epochs
  `
  await readRows(db, query, signal, (row) => {
    horizon = row
  })
  return horizon as unknown as Horizon
}

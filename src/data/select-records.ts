import { type RawBuilder, sql } from 'kysely'
import type { Position } from '../lib/cursor.ts'
import { isAllowed } from './allowed-sources.ts'
import { readRows } from './read-rows.ts'
import type { Database } from './schema.ts'

/** A record as the table holds it; times, numbers of 64 bits and JSON as PostgreSQL's text. */
export interface StoredRecord {
  epoch: number
  xid: string
  n: string
  received_at: string
  time: string | null
  source: string
  id: string
  type: string
  subject: string | null
  dataschema: string | null
  datacontenttype: string | null
  extensions: string | null
  data: string | null
  data_base64: string | null
}

export interface RecordFilter {
  source?: string | undefined
  id?: string | undefined
  sourcePrefix?: string | undefined
  /** The key's prefixes (lib/source-prefix.ts); empty: all. */
  allowedPrefixes: readonly string[]
  type?: string | undefined
  subject?: string | undefined
  /** In UTC; from is included, until is not. */
  timeFrom?: string | undefined
  timeUntil?: string | undefined
  receivedFrom?: string | undefined
  receivedUntil?: string | undefined
  /** JSON text that the data must contain (jsonb's @>). */
  data?: string | undefined
}

/** Below it, no row is still to come. */
export interface Horizon {
  epoch: number
  xid: string
}

export interface PageRequest {
  filter: RecordFilter
  order: 'asc' | 'desc'
  /** The last record of the page before. */
  after: Position | undefined
  /** In ascending order: where the page must end; absent: at what is settled when it is read. */
  until: Horizon | undefined
  limit: number
  /** The page ends before a record that takes it past this many bytes; it has one record at least. */
  maxBytes: number
}

const COLUMNS = sql`epoch, xid, n, received_at, "time", source, id, type, subject, dataschema, datacontenttype, extensions, data, data_bytes`

/** `data` and times leave as text, bytes as base64 without the line breaks that encode() puts in. */
const OUTPUT = sql`epoch, xid::text AS xid, n::text AS n, received_at, "time", source, id, type, subject, dataschema, datacontenttype,
  extensions, data::text AS data, translate(encode(data_bytes, 'base64'), E'\n', '') AS data_base64`

/** @throws the reason of `signal`, at which the statement is cancelled */
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

/** In bytes, what a record takes as JSON, but for what has to be escaped. 512 are for the names of its fields, times and cursor. */
const SIZE = sql`512 + octet_length(source) + octet_length(id) + octet_length(type)
  + ${sql.join(
    ['subject', 'dataschema', 'datacontenttype', 'extensions', 'data'].map(
      (column) => sql`coalesce(octet_length(${sql.ref(column)}::text), 0)`,
    ),
    sql` + `,
  )} + coalesce((octet_length(data_bytes) + 2) / 3 * 4, 0)`

/**
 * A page in the order of the feed, or from its end. One record more than the limit is looked for: `more` says whether
 * there is a next page.
 * @param onRow gets each record as it arrives, and how many bytes the page takes as JSON, about. When it throws, or `signal`
 *   aborts, the statement is cancelled
 * @returns the position of the last record, and not the record, whose payload would stay in memory with it
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
  // Of a table: a mere xid or n would be the text that leaves, and of texts 10 comes before 9.
  const ordered = (of: 'records' | 'candidates' | 'measured') => {
    const by = (column: string) => sql`${sql.ref(`${of}.${column}`)} ${direction}`
    return sql`ORDER BY ${by('epoch')}, ${by('xid')}, ${by('n')}`
  }
  // The sum of the sizes runs over the page's own rows, before their payloads are fetched: a page of large records
  // costs the memory of `maxBytes` here and at the server, not of a thousand times the largest record.
  const query = sql<StoredRecord & { found: number; page_bytes: number }>`
    SELECT ${OUTPUT}, found::integer, (max(bytes) OVER ())::float8 AS page_bytes
    FROM (
      SELECT *, row_number() OVER running AS place, count(*) OVER () AS found, sum(${SIZE}) OVER running AS bytes
      FROM (
        SELECT ${COLUMNS} FROM sluice.records WHERE ${sql.join(conditions(page), sql` AND `)}
        ${ordered('records')} LIMIT ${limit + 1}
      ) AS candidates
      WINDOW running AS (${ordered('candidates')} ROWS UNBOUNDED PRECEDING)
    ) AS measured
    WHERE place = 1 OR (place <= ${limit} AND bytes <= ${maxBytes})
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
  // ^@ is "starts with"; on a column of collation "C" it can use the index of the identity.
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
 * The lowest transaction that could still add a row, else the next one there will be. pg_snapshot_xmin() would do, were it
 * not for those of other databases of the server, which hold nothing up here however long they take: a transaction that
 * is known to run in one is passed over. One that is not found any more, or is prepared, counts. A standby lists none, so
 * it is the xmin there; which is the next one where none is running
 * (PostgreSQL manual, 9.28.7 Transaction ID and Snapshot Information Functions).
 *
 * Sound, because the snapshot is older than what pg_stat_activity says: a backend that it finds in a transaction of the
 * snapshot was there, and in its database, all the while.
 */
const LOWEST_RUNNING = sql`(SELECT coalesce(
  (SELECT min(running) FROM pg_snapshot_xip(pg_current_snapshot()) AS running WHERE NOT EXISTS (
    SELECT FROM pg_stat_activity WHERE backend_xid = running::xid AND datname <> current_database()
  )),
  CASE WHEN EXISTS (SELECT FROM pg_snapshot_xip(pg_current_snapshot())) THEN pg_snapshot_xmax(pg_current_snapshot())
       ELSE pg_snapshot_xmin(pg_current_snapshot()) END
))`

/**
 * Below every transaction that could still add a row: whoever goes upwards meets no row later that belongs before his
 * cursor. (The rows of earlier epochs are all there.)
 */
const settled = sql`(xid < ${LOWEST_RUNNING} OR epoch < (SELECT max(epoch) FROM sluice.epochs))`

/** Where `settled` ends now, to hold on to. @throws the reason of `signal`, at which the statement is cancelled */
export async function selectHorizon(db: Database, signal?: AbortSignal): Promise<Horizon> {
  let horizon: Horizon | undefined
  const query = sql<Horizon>`
    SELECT coalesce(max(epoch), 0) AS epoch, ${LOWEST_RUNNING}::text AS xid FROM sluice.epochs
  `
  await readRows(db, query, signal, (row) => {
    horizon = row
  })
  return horizon as unknown as Horizon
}

import { type RawBuilder, sql } from 'kysely'
import type { Position } from '../lib/offset.ts'
import { readRows } from '../postgres/read-rows.ts'
import type { Database } from '../postgres/tables.ts'
import { isAllowed } from './allowed-sources.ts'

export interface RecordFilter {
  source?: string | undefined
  id?: string | undefined
  sourcePrefix?: string | undefined
  /** The source prefixes of the key (lib/source-prefix.ts); empty: all sources. */
  allowedPrefixes: readonly string[]
  type?: string | undefined
  /** Any of these types. */
  types?: readonly string[] | undefined
  subject?: string | undefined
  /** Times in UTC. `From` is inclusive, `Until` is exclusive. */
  timeFrom?: string | undefined
  timeUntil?: string | undefined
  receivedFrom?: string | undefined
  receivedUntil?: string | undefined
  /** JSON text that the data must contain (jsonb's @>). */
  data?: string | undefined
  jsonpath?: Jsonpath | undefined
}

/** A jsonpath of PostgreSQL. A condition must be true of the data; a path must lead to something in it. */
export interface Jsonpath {
  kind: 'condition' | 'path'
  text: string
}

/** A limit in the feed. No new row will appear before it. */
interface Horizon {
  epoch: number
  xid: string
}

/** Records that match a filter, and where they begin and end in the feed. */
export interface Listing {
  filter: RecordFilter
  order: 'asc' | 'desc'
  /** Only records after this position, in this order. */
  after: Position | undefined
  /** Only for ascending order: where it ends. Absent: at the end of the feed at the time of the query. */
  until: Horizon | undefined
}

/** The condition that a record is listed. */
export function isListed({ filter, order, after, until }: Listing): RawBuilder<boolean> {
  const all = [matches(filter)]
  if (after !== undefined) all.push(order === 'asc' ? isAfter(after) : sql`${POSITION} < ${rowOf(after)}`)
  if (order === 'asc')
    all.push(until === undefined ? settled : sql`(epoch, xid) < (${until.epoch}::integer, ${until.xid}::xid8)`)
  return sql.join(all, sql` AND `)
}

const POSITION = sql`(epoch, xid, n)`
const rowOf = ({ epoch, xid, n }: Position) => sql`(${epoch}::integer, ${xid}::xid8, ${n}::bigint)`

/** The condition that a record is after this position in the feed. */
export const isAfter = (position: Position): RawBuilder<boolean> => sql`${POSITION} > ${rowOf(position)}`

export const isAt = (position: Position): RawBuilder<boolean> => sql`${POSITION} = ${rowOf(position)}`

/** The condition that a record matches the filter. */
export function matches(f: RecordFilter): RawBuilder<boolean> {
  const all = [sql<boolean>`true`]
  const add = (value: unknown, condition: RawBuilder<boolean>) => void (value !== undefined && all.push(condition))

  add(f.source, sql`source = ${f.source}`)
  add(f.id, sql`id = ${f.id}`)
  // ^@ means "starts with". On a column with collation "C" it can use the index on the identity.
  add(f.sourcePrefix, sql`source ^@ ${f.sourcePrefix}`)
  if (f.allowedPrefixes.length > 0) all.push(isAllowed(f.allowedPrefixes))
  add(f.type, sql`type = ${f.type}`)
  add(f.types, sql`type = ANY (${f.types}::text[])`)
  add(f.subject, sql`subject = ${f.subject}`)
  add(f.timeFrom, sql`coalesce("time", received_at) >= ${f.timeFrom}::timestamptz`)
  add(f.timeUntil, sql`coalesce("time", received_at) < ${f.timeUntil}::timestamptz`)
  add(f.receivedFrom, sql`received_at >= ${f.receivedFrom}::timestamptz`)
  add(f.receivedUntil, sql`received_at < ${f.receivedUntil}::timestamptz`)
  add(f.data, sql`data::jsonb @> ${f.data}::jsonb`)
  if (f.jsonpath !== undefined) all.push(satisfies(f.jsonpath))
  return sql.join(all, sql` AND `)
}

/** Neither operator fails for data with another structure: it does not match. */
const satisfies = ({ kind, text }: Jsonpath): RawBuilder<boolean> =>
  kind === 'condition' ? sql`data::jsonb @@ ${text}::jsonpath` : sql`data::jsonb @? ${text}::jsonpath`

/**
 * ORDER BY for feed order, or its reverse.
 * @param of the table. Without it, `xid` or `n` would mean the output column, which is text, and as text 10 sorts before 9
 */
export function inFeedOrder(of: string, order: Listing['order']): RawBuilder<unknown> {
  const direction = order === 'asc' ? sql`ASC` : sql`DESC`
  return sql`ORDER BY ${sql.join(['epoch', 'xid', 'n'].map((column) => sql`${sql.ref(`${of}.${column}`)} ${direction}`))}`
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
const OLDEST_RUNNING = sql<string>`(SELECT coalesce(
  (SELECT min(running) FROM pg_snapshot_xip(pg_current_snapshot()) AS running WHERE NOT EXISTS (
    SELECT FROM pg_stat_activity WHERE backend_xid = running::xid AND datname <> current_database()
  )),
  CASE WHEN EXISTS (SELECT FROM pg_snapshot_xip(pg_current_snapshot())) THEN pg_snapshot_xmax(pg_current_snapshot())
       ELSE pg_snapshot_xmin(pg_current_snapshot()) END
))`

/**
 * Rows before every transaction that could still add a row. So no row can later appear before the cursor of a reader that follows
 * the feed. (All rows of earlier epochs are visible.) As one comparison, it is a bound for the index.
 */
const settled = sql<boolean>`(epoch, xid) < ((SELECT coalesce(max(epoch), 0) FROM sluice.epochs), ${OLDEST_RUNNING})`

/** The current end of `settled`, as a query. */
export const HORIZON = sql`SELECT coalesce(max(epoch), 0) AS epoch, ${OLDEST_RUNNING} AS xid FROM sluice.epochs`

/** The condition that a record is before HORIZON, which the statement has as `horizon`. */
export const SETTLED = sql<boolean>`(records.epoch, records.xid) < (horizon.epoch, horizon.xid)`

/** The current end, to use for several pages. @param signal cancels the statement. @throws the reason of `signal` */
export async function selectHorizon(db: Database, signal?: AbortSignal): Promise<Horizon> {
  let horizon: Horizon | undefined
  const query = sql<Horizon>`SELECT epoch, xid::text AS xid FROM (${HORIZON}) AS horizon`
  await readRows(db, query, signal, (row) => {
    horizon = row
  })
  return horizon as unknown as Horizon
}

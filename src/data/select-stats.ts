import { type RawBuilder, sql } from 'kysely'
import { readRows } from '../postgres/read-rows.ts'
import type { Database } from '../postgres/tables.ts'
import { BUCKET_SECONDS } from '../schemas/stats.ts'
import { isAllowed } from './allowed-sources.ts'

export interface StatsFilter {
  bucket: keyof typeof BUCKET_SECONDS
  /** The beginnings of the first bucket, and of the first one after the last. */
  from: string
  until: string
  /** What the buckets are divided by. */
  by?: 'type' | 'source' | undefined
  /** How many types or sources have their own buckets: those with the most records. */
  limit: number
  type?: string | undefined
  source?: string | undefined
  sourcePrefix?: string | undefined
  /** The source prefixes of the key (lib/source-prefix.ts); empty: all sources. */
  allowedPrefixes: readonly string[]
}

/** Those with the most records are found in these. */
export const LONGER = { minute: 'hour', hour: 'day', day: 'day' } as const

/**
 * Reads buckets from the rollups, and never a record. Buckets without records, duplicates and rejected records are left out.
 *
 * Each query uses the series with the fewest rows: those of whole types if it has no condition on the source, those of whole sources if
 * it has none on the type. What is beyond the limit, or has no series of its own, is counted under null: the series that count
 * everything minus those with a name. For a key with prefixes, nothing is subtracted from the total of all sources, because that
 * contains the records of others too.
 * @returns an array of buckets in JSON
 * @throws the reason of `signal`
 */
export async function selectStats(db: Database, filter: StatsFilter, signal: AbortSignal): Promise<string> {
  const { by } = filter
  let buckets = ''
  const query = sql<{ buckets: string }>`
    WITH ${by === undefined ? countedTogether(filter) : countedBy(by, filter)}
    SELECT coalesce(json_agg(bucket), '[]')::text AS buckets FROM (
      SELECT to_char(start, 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS start, ${by === undefined ? sql`` : sql`name AS ${sql.ref(by)},`} ${COLUMNS}
      FROM counted WHERE records <> 0 OR duplicates <> 0 OR rejected <> 0 ORDER BY counted.start, name
    ) AS bucket`
  await readRows(db, query, signal, (row) => {
    buckets = row.buckets
  })
  return buckets
}

/** How many series `selectStats` adds up in each bucket, and in each longer bucket to find those with the most records. */
export async function countSeries(db: Database, filter: StatsFilter): Promise<{ whole: number; named: number }> {
  const { named, whole } = seriesOf(filter)
  const { rows } = await sql<{ whole: number; named: number }>`
    SELECT (count(*) FILTER (WHERE ${whole}))::integer AS whole, (count(*) FILTER (WHERE ${named ?? sql`false`}))::integer AS named
    FROM sluice.series`.execute(db)
  return rows[0] as { whole: number; named: number }
}

const COUNTS = ['records', 'bytes', 'duplicates', 'rejected']
const COLUMNS = sql.join(COUNTS.map((column) => sql.ref(column)))
/** Not numeric, which sum() would return: it is several times as slow. */
const SUMS = sql.join(COUNTS.map((column) => sql`sum(${sql.ref(column)})::bigint AS ${sql.ref(column)}`))

const countedTogether = (filter: StatsFilter) =>
  sql`counted AS (SELECT NULL AS name, * FROM (${wholeOf(filter)}) AS whole)`

/** Those with the most records are found with longer buckets: reading all that the limit leaves out would take many times as long. */
function countedBy(by: 'type' | 'source', filter: StatsFilter): RawBuilder<unknown> {
  const { named = sql`false` } = seriesOf(filter)
  const name = sql.ref(by)
  const minus = (column: string) =>
    sql`${sql.ref(`whole.${column}`)} - coalesce(${sql.ref(`known.${column}`)}, 0) AS ${sql.ref(column)}`
  return sql`
    top AS MATERIALIZED (
      SELECT ${name} AS name FROM ${rowsOf(named, { ...filter, bucket: LONGER[filter.bucket] })}
      GROUP BY ${name} ORDER BY sum(records) DESC, ${name} LIMIT ${filter.limit}
    ), named AS MATERIALIZED (
      SELECT ${name} AS name, start, ${SUMS}
      FROM ${rowsOf(sql`${named} AND ${name} IN (SELECT name FROM top)`, filter)} GROUP BY ${name}, start
    ), counted AS (
      SELECT name, start, ${COLUMNS} FROM named
      UNION ALL
      SELECT NULL, start, ${sql.join(COUNTS.map(minus))}
      FROM (${wholeOf(filter)}) AS whole
      LEFT JOIN (SELECT start, ${SUMS} FROM named GROUP BY start) AS known USING (start)
    )`
}

/** All records of the filter. */
function wholeOf(filter: StatsFilter): RawBuilder<unknown> {
  const rows = rowsOf(seriesOf(filter).whole, filter)
  const isOne = filter.source !== undefined || sourceConditions(filter).length === 0
  return isOne ? sql`SELECT start, ${COLUMNS} FROM ${rows}` : sql`SELECT start, ${SUMS} FROM ${rows} GROUP BY start`
}

/** Conditions of the series that have names, and of those that together count everything. */
function seriesOf(filter: StatsFilter): { named?: RawBuilder<unknown>; whole: RawBuilder<unknown> } {
  const whole = sql`${sourceOf(filter)} AND ${typeOf(filter)}`
  if (filter.by === undefined) return { whole }
  if (filter.by === 'type') return { named: typesOf(filter), whole }
  const named = sourcesOf(filter)
  // With a condition on the source, only sources that have a series can be counted.
  return { named, whole: sourceConditions(filter).length === 0 ? whole : named }
}

/** The rows of these series, one series after the other: the planner would read the whole table. OFFSET prevents that. */
function rowsOf(series: RawBuilder<unknown>, { bucket, from, until }: StatsFilter): RawBuilder<unknown> {
  return sql`(SELECT * FROM sluice.series WHERE ${series}) AS series, LATERAL (
    SELECT start, ${COLUMNS} FROM sluice.rollups
    WHERE series = series.series AND seconds = ${sql.lit(BUCKET_SECONDS[bucket])}
      AND start >= date_trunc(${bucket}, ${from}::timestamptz, 'UTC') AND start < ${until}::timestamptz OFFSET 0
  ) AS rows`
}

const typeOf = ({ type }: StatsFilter) => sql`type = ${type ?? ''}`

const typesOf = (filter: StatsFilter) =>
  sql`${sourceOf(filter)} AND ${filter.type === undefined ? sql`type <> ''` : typeOf(filter)}`

const sourcesOf = (filter: StatsFilter) =>
  sql.join([sql`source <> ''`, typeOf(filter), ...sourceConditions(filter)], sql` AND `)

function sourceOf(filter: StatsFilter): RawBuilder<unknown> {
  const conditions = sourceConditions(filter)
  return conditions.length === 0 ? sql`source = ''` : sql.join([sql`source <> ''`, ...conditions], sql` AND `)
}

function sourceConditions({ source, sourcePrefix, allowedPrefixes }: StatsFilter): RawBuilder<unknown>[] {
  return [
    ...(source === undefined ? [] : [sql`source = ${source}`]),
    ...(sourcePrefix === undefined ? [] : [sql`source ^@ ${sourcePrefix}`]),
    ...(allowedPrefixes.length === 0 ? [] : [isAllowed(allowedPrefixes)]),
  ]
}

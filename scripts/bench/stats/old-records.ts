import { type QueryExecutorProvider, sql } from 'kysely'
import type { Database } from '../../../src/postgres/tables.ts'

/** Each source has records of each type. */
const [SOURCES, TYPES] = [5, 4]
/** Between two records, so that ten million are about a year. */
const EVERY_SECONDS = 3
/** How many records a statement stores. */
const PART = 1_000_000

/** Stores records of several sources and types, the last one as if received now, and forgets all counts: as before the rollups. */
export async function storeOld(db: Database, records: number): Promise<void> {
  for (let first = 0; first < records; first += PART) {
    const last = Math.min(first + PART, records) - 1
    await sql`
      INSERT INTO sluice.records (epoch, n, received_at, source, id, type, data)
      SELECT sluice.current_epoch(), n, now() - make_interval(secs => (${records}::bigint - n) * ${EVERY_SECONDS}::integer),
             'old/' || n % ${SOURCES}::integer, gen_random_uuid(), 'type-' || n / ${SOURCES}::integer % ${TYPES}::integer,
             json_build_object('order', n, 'currency', 'EUR', 'total', n % 10000)
      FROM generate_series(${first}::bigint, ${last}::bigint) AS n`.execute(db)
  }
  await sql`VACUUM (ANALYZE) sluice.records`.execute(db)
  await sql`TRUNCATE sluice.rollups`.execute(db)
  await makeOld(db)
  const { rows } = await sql<{ size: string }>`
    SELECT pg_size_pretty(pg_total_relation_size('sluice.records')) AS size`.execute(db)
  console.error(`they take ${rows[0]?.size}`)
}

/**
 * Makes all stored records old, as the migration that adds the rollups does: the part `backfill` counts them, and `live` only those
 * that come later.
 */
export async function makeOld(root: QueryExecutorProvider): Promise<void> {
  for (const [part, prefix] of [
    ['live', ''],
    ['backfill', 'until_'],
  ] as const)
    await sql`
      UPDATE sluice.rollup_progress SET (${sql.raw(`${prefix}epoch, ${prefix}xid, ${prefix}n`)}) = (
        SELECT epoch, xid, n FROM (SELECT epoch, xid, n FROM sluice.records UNION ALL SELECT 0, '0', 0) AS all_records
        ORDER BY epoch DESC, xid DESC, n DESC LIMIT 1
      ) WHERE part = ${part}`.execute(root)
}

/** @returns how many hours of a source and type have another number of records in the table than in the statistics */
export async function countWrong(db: Database): Promise<number> {
  const { rows } = await sql<{ hours: number }>`
    WITH stored AS (
      SELECT source, type, date_trunc('hour', received_at, 'UTC') AS start, count(*) AS records FROM sluice.records GROUP BY 1, 2, 3
    ), counted AS (
      SELECT source, type, start, records FROM sluice.rollups JOIN sluice.series USING (series)
      WHERE seconds = 3600 AND source <> '' AND type <> ''
    )
    SELECT count(*)::integer AS hours FROM stored FULL JOIN counted USING (source, type, start)
    WHERE stored.records IS DISTINCT FROM counted.records`.execute(db)
  return Number(rows[0]?.hours)
}

import { sql } from 'kysely'
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
  await sql`
    UPDATE sluice.rollup_progress AS progress
    SET epoch = CASE part WHEN 'live' THEN last.epoch ELSE 0 END, xid = CASE part WHEN 'live' THEN last.xid ELSE '0' END,
        n = CASE part WHEN 'live' THEN last.n ELSE 0 END, records = 0, folded = 0, rest_until = NULL,
        until_epoch = CASE part WHEN 'backfill' THEN last.epoch END, until_xid = CASE part WHEN 'backfill' THEN last.xid END,
        until_n = CASE part WHEN 'backfill' THEN last.n END
    FROM (SELECT epoch, xid, n FROM sluice.records ORDER BY epoch DESC, xid DESC, n DESC LIMIT 1) AS last`.execute(db)
  const { rows } = await sql<{ size: string }>`
    SELECT pg_size_pretty(pg_total_relation_size('sluice.records')) AS size`.execute(db)
  console.error(`they take ${rows[0]?.size}`)
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

import { type RawBuilder, sql } from 'kysely'
import type { Database } from '../postgres/tables.ts'

/** How many series the sources of one type may have. So a sender with too many sources leaves room for the others. */
export const placesOfType = (maxSeries: number): number => Math.max(1, Math.floor(maxSeries / 10))

/**
 * Adds the series of entries, until there are as many as there may be: first those of types, because there are fewer of them, then
 * those of sources, then those of the pairs.
 * @param json an array of entries
 */
export async function addSeries(trx: Database, json: string, maxSeries: number): Promise<void> {
  await sql`
    WITH entry AS MATERIALIZED (
      SELECT DISTINCT source, type FROM ${entriesOf(json)} WHERE type <> ''
    ), pair AS MATERIALIZED (
      SELECT source, type FROM entry WHERE source <> '' AND NOT EXISTS (
        SELECT FROM sluice.series WHERE series.source = entry.source AND series.type = entry.type
      )
    ), admitted AS MATERIALIZED (
      SELECT source, type FROM (
        SELECT source, type, row_number() OVER (PARTITION BY type ORDER BY source) +
               (SELECT count(*) FROM sluice.series WHERE series.type = pair.type AND series.source <> '') AS place
        FROM pair
      ) AS placed WHERE place <= ${placesOfType(maxSeries)}
    ), wanted AS (
      SELECT 1 AS rank, '' AS source, type FROM entry UNION SELECT 2, source, '' FROM admitted UNION SELECT 3, source, type FROM admitted
    )
    INSERT INTO sluice.series (source, type)
    SELECT source, type FROM wanted
    WHERE NOT EXISTS (SELECT FROM sluice.series WHERE series.source = wanted.source AND series.type = wanted.type)
    ORDER BY rank, source, type
    LIMIT greatest(0, ${maxSeries} - (SELECT count(*) FROM sluice.series))
    ON CONFLICT DO NOTHING`.execute(trx)
}

/**
 * Adds entries to the rollups: to the buckets of these lengths, and to the series of the pair, the type, the source, and everything. All
 * transactions lock the rows in the same order, so that they do not wait for each other in a circle.
 * @param json an array of entries
 * @param lengths in seconds
 */
export async function addRollups(db: Database, json: string, lengths: readonly number[]): Promise<void> {
  await sql`
    INSERT INTO sluice.rollups AS known (series, seconds, start, records, bytes, duplicates, rejected)
    SELECT series.series, bucket.seconds, ${startOf(sql`entry.start`, sql`bucket.seconds`)} AS start, coalesce(sum(entry.records), 0),
           coalesce(sum(entry.bytes), 0), coalesce(sum(entry.duplicates), 0), coalesce(sum(entry.rejected), 0)
    FROM ${entriesOf(json)},
         LATERAL (
           SELECT entry.source, entry.type UNION SELECT '', entry.type UNION SELECT entry.source, '' UNION SELECT '', ''
         ) AS member (source, type)
         JOIN sluice.series USING (source, type),
         (VALUES ${sql.join(lengths.map((seconds) => sql`(${sql.lit(seconds)})`))}) AS bucket (seconds)
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (series, seconds, start) DO UPDATE
    SET records = known.records + excluded.records, bytes = known.bytes + excluded.bytes,
        duplicates = known.duplicates + excluded.duplicates, rejected = known.rejected + excluded.rejected`.execute(db)
}

/** How many records of entries have no series of their own, because there was no place for it. */
export const foldedOf = (json: string) => sql`(
  SELECT coalesce(sum(entry.records), 0) FROM ${entriesOf(json)} LEFT JOIN sluice.series USING (source, type)
  WHERE series.series IS NULL OR source = '' OR type = ''
)`

const entriesOf = (json: string) => sql`json_to_recordset(${json}::json) AS entry (
  start timestamptz, source text, type text, records bigint, bytes bigint, duplicates bigint, rejected bigint
)`

/** The beginning of the bucket, in UTC. */
export const startOf = (time: RawBuilder<unknown>, seconds: RawBuilder<unknown>) =>
  sql`date_bin(make_interval(secs => ${seconds}), ${time}, 'epoch'::timestamptz)`

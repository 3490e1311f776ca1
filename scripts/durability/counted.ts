import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import { withConnection } from '../../src/commands/database.ts'

/** The rollups are about a second late. This allows for a busy machine. */
const PATIENCE_MS = 60_000
const PAUSE_MS = 200

/**
 * Waits until all records are counted, and compares the rollups with the table. Nothing may write meanwhile.
 * @param source undefined: all sources
 * @returns the largest difference in the minutes, hours or days: too many records, or if it is negative, too few. 0: each was counted
 *   once
 */
export async function miscounted(url: string, source: string | undefined): Promise<number> {
  const series = source === undefined ? sql`source = '' AND type = ''` : sql`source = ${source} AND type <> ''`
  const records = source === undefined ? sql`true` : sql`source = ${source}`
  return withConnection(url, async (db) => {
    for (const end = performance.now() + PATIENCE_MS; ; await sleep(PAUSE_MS)) {
      const { rows } = await sql<{ is_complete: boolean; difference: string }>`
        WITH stored AS MATERIALIZED (
          SELECT count(*) AS records, coalesce(sum(coalesce(pg_column_size(data), pg_column_size(data_bytes), 0)), 0) AS bytes
          FROM sluice.records WHERE ${records}
        ), counted AS (
          SELECT length.seconds, coalesce(sum(rollups.records), 0) AS records, coalesce(sum(rollups.bytes), 0) AS bytes
          FROM (VALUES (60), (3600), (86400)) AS length (seconds)
          LEFT JOIN (sluice.rollups JOIN sluice.series USING (series)) ON rollups.seconds = length.seconds AND ${series}
          GROUP BY length.seconds
        )
        SELECT NOT EXISTS (
                 SELECT FROM sluice.records, sluice.rollup_progress AS live
                 WHERE part = 'live' AND (records.epoch, records.xid, records.n) > (live.epoch, live.xid, live.n)
               ) AS is_complete,
               (SELECT CASE WHEN counted.records <> stored.records THEN counted.records - stored.records
                            ELSE sign(counted.bytes - stored.bytes) END
                FROM counted, stored ORDER BY abs(counted.records - stored.records) DESC, abs(counted.bytes - stored.bytes) DESC
                LIMIT 1) AS difference`.execute(db)
      const [{ is_complete, difference }] = rows as [(typeof rows)[0] & object]
      if (is_complete || performance.now() > end) return Number(difference)
    }
  })
}

import { sql } from 'kysely'
import { withConnection } from '../../../src/commands/database.ts'
import { startServer } from '../servers/start.ts'
import type { Outcome, Run, TableRow } from '../table.ts'
import { rounded } from '../table.ts'

const [TYPES, SOURCES] = [20, 10]
const YEAR = 'bucket=hour&from=2025-01-01T00:00:00Z&until=2026-01-01T00:00:00Z'
const REQUESTS = 50

/** What is asked for, of the year. */
const QUERIES = {
  'year by hour': '',
  'year of a type': '&type=type-7',
  'year by type': '&by=type',
  'year of 10 sources': '&sourcePrefix=source',
}

/**
 * Measures how long the statistics of a year by hour take, with rollups of a year: 20 types with 10 sources each, in each hour. The number
 * of records does not matter, because at most one is read.
 */
export async function measureReading({ database, options }: Run): Promise<Outcome> {
  console.error('storing the rollups of a year')
  await withConnection(database.ownerUrl, async (db) => {
    await sql`
      INSERT INTO sluice.series (source, type)
      SELECT source, type FROM
        (SELECT '' AS source UNION ALL SELECT 'source-' || n FROM generate_series(1, ${SOURCES}::integer) AS n) AS sources,
        (SELECT '' AS type UNION ALL SELECT 'type-' || n FROM generate_series(1, ${TYPES}::integer) AS n) AS types
      ON CONFLICT DO NOTHING`.execute(db)
    await sql`
      INSERT INTO sluice.rollups (series, seconds, start, records, bytes)
      SELECT series, seconds, start, 10000, 1000000 FROM (VALUES ('1 hour', 3600), ('1 day', 86400)) AS lengths (length, seconds),
             generate_series('2025-01-01 00:00Z'::timestamptz, '2025-12-31 23:00Z', length::interval) AS start, sluice.series
      ORDER BY start`.execute(db)
    await sql`VACUUM (ANALYZE) sluice.rollups`.execute(db)
    const { rows } = await sql<{ bytes: number }>`
      SELECT (pg_total_relation_size('sluice.rollups') / count(*))::integer AS bytes FROM sluice.rollups`.execute(db)
    console.error(`a rollup takes ${rows[0]?.bytes} bytes`)
  })
  const server = await startServer('ours', database, options.profile)
  const rows: TableRow[] = []
  const faults: string[] = []
  for (const [name, query] of Object.entries(QUERIES)) {
    const times: number[] = []
    for (let request = 0; request < REQUESTS; request++) {
      const begin = performance.now()
      const response = await fetch(`http://127.0.0.1:${server.port}/v1/stats?${YEAR}${query}`, {
        headers: { authorization: `Bearer ${database.key}` },
      })
      await response.text()
      times.push(performance.now() - begin)
      if (!response.ok) faults.push(`stats ${name}: ${response.status}`)
    }
    times.sort((one, other) => one - other)
    const percentile = (p: number) => rounded(times[Math.floor((times.length - 1) * p)] as number)
    console.error(`stats ${name}: p50 ${percentile(0.5)} ms, p99 ${percentile(0.99)} ms`)
    rows.push({ name: `stats ${name}`, p50_ms: percentile(0.5), p99_ms: percentile(0.99), ratios: {} })
  }
  await server.child.stop()
  return { rows, faults }
}

import { sql } from 'kysely'
import type { Database } from '../postgres/tables.ts'

/** Rollups of one series: buckets of this length in seconds that began before this time. */
interface Chosen {
  series: number
  seconds: number
  /** RFC 3339. */
  before: string
}

export async function selectSeries(db: Database): Promise<number[]> {
  const { rows } = await sql<{ series: number }>`SELECT series FROM sluice.series ORDER BY series`.execute(db)
  return rows.map(({ series }) => series)
}

/** Deletes up to `limit` of these rollups, the oldest. @returns how many were deleted */
export async function deleteRollups(db: Database, chosen: Chosen, limit: number): Promise<number> {
  const { numAffectedRows } = await sql`
    DELETE FROM sluice.rollups WHERE (series, seconds, start) IN (
      SELECT series, seconds, start FROM sluice.rollups WHERE ${isChosen(chosen)} ORDER BY start LIMIT ${limit}
    )`.execute(db)
  return Number(numAffectedRows)
}

export async function countRollups(db: Database, chosen: Chosen): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    SELECT count(*)::integer AS count FROM sluice.rollups WHERE ${isChosen(chosen)}`.execute(db)
  return rows[0]?.count as number
}

const isChosen = ({ series, seconds, before }: Chosen) =>
  sql`series = ${series} AND seconds = ${sql.lit(seconds)} AND start < ${before}::timestamptz`

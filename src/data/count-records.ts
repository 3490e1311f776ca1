import { sql } from 'kysely'
import { readRows } from '../postgres/read-rows.ts'
import type { Database } from '../postgres/tables.ts'
import { isListed, type Listing } from './listing.ts'

/** Counts the listed records. @param signal cancels the statement. @throws the reason of `signal` */
export async function countRecords(db: Database, listing: Listing, signal: AbortSignal): Promise<number> {
  let count = 0
  const query = sql<{ count: string }>`SELECT count(*)::text AS count FROM sluice.records WHERE ${isListed(listing)}`
  await readRows(db, query, signal, (row) => {
    count = Number(row.count)
  })
  return count
}

import { sql } from 'kysely'
import { readRows } from '../postgres/read-rows.ts'
import type { Database } from '../postgres/tables.ts'
import { inFeedOrder, isListed, type Listing } from './listing.ts'

/**
 * The names of the members that `data` has in any of the listed records, in the order in which they usually appear.
 * @param limit how many records to read; undefined: all
 * @param max how many names to return
 * @param signal cancels the statement. @throws the reason of `signal`
 */
export async function selectMembers(
  db: Database,
  listing: Listing,
  limit: number | undefined,
  max: number,
  signal: AbortSignal,
): Promise<string[]> {
  const names: string[] = []
  const query = sql<{ name: string }>`
    SELECT name FROM (
      SELECT CASE WHEN json_typeof(data) = 'object' THEN data ELSE '{}' END AS data
      FROM sluice.records WHERE ${isListed(listing)} ${limit === undefined ? sql`` : sql`${inFeedOrder('records', listing.order)} LIMIT ${limit}`}
    ) AS listed, json_object_keys(listed.data) WITH ORDINALITY AS member (name, ordinal)
    GROUP BY name ORDER BY avg(ordinal), name LIMIT ${max}
  `
  await readRows(db, query, signal, ({ name }) => {
    names.push(name)
  })
  return names
}

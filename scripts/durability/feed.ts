import type { Stored } from './stored.ts'

/**
 * Compares the records that a following reader saw with the table. It must see each record exactly once, unaltered, with its cursor
 * and in the order of the feed.
 * @param rows in the order of the feed
 * @returns the records for which this is not true, and what is wrong
 */
export function* compareFeed(
  shown: readonly Stored[],
  rows: readonly Stored[],
): Generator<{ id: string; what: string }> {
  const indexes = new Map(rows.map(({ id }, index) => [id, index]))
  const seen = new Set<string>()
  let last = -1
  for (const { id, cursor, difference } of shown) {
    const index = indexes.get(id)
    const row = index === undefined ? undefined : rows[index]
    if (seen.has(id)) yield { id, what: 'shown twice' }
    else if (row === undefined || index === undefined) yield { id, what: 'shown, but not stored' }
    else if (cursor !== row.cursor) yield { id, what: `shown with the cursor ${cursor}, but stored with ${row.cursor}` }
    else if (index < last) yield { id, what: 'shown out of order' }
    if (difference !== undefined) yield { id, what: `shown altered: ${difference}` }
    seen.add(id)
    last = Math.max(last, index ?? last)
  }
  for (const { id } of rows) if (!seen.has(id)) yield { id, what: 'never shown' }
}

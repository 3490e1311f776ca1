import type { Stored } from './stored.ts'

/**
 * Compares what a following reader was shown with the table: each record exactly once, unaltered, under its cursor and in the
 * order of the feed.
 * @param rows in the order of the feed
 * @returns the records that were not shown so, and why
 */
export function* compareFeed(
  shown: readonly Stored[],
  rows: readonly Stored[],
): Generator<{ id: string; what: string }> {
  const places = new Map(rows.map(({ id }, place) => [id, place]))
  const seen = new Set<string>()
  let last = -1
  for (const { id, cursor, difference } of shown) {
    const place = places.get(id)
    const row = place === undefined ? undefined : rows[place]
    if (seen.has(id)) yield { id, what: 'shown twice' }
    else if (row === undefined || place === undefined) yield { id, what: 'shown, but not stored' }
    else if (cursor !== row.cursor)
      yield { id, what: `shown under the cursor ${cursor}, but stored under ${row.cursor}` }
    else if (place < last) yield { id, what: 'shown out of order' }
    if (difference !== undefined) yield { id, what: `shown altered: ${difference}` }
    seen.add(id)
    last = Math.max(last, place ?? last)
  }
  for (const { id } of rows) if (!seen.has(id)) yield { id, what: 'never shown' }
}

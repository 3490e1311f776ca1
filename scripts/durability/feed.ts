import type { Stored } from './stored.ts'

/**
 * Compares what a reader was shown who followed the records with the table: each record once, all of it as it was sent, under
 * its cursor, in the order of the cursors, and none left out.
 * @param rows in the order of the feed
 * @returns what is wrong with it, a record each
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
    else if (row === undefined || place === undefined) yield { id, what: 'shown, and not stored' }
    else if (cursor !== row.cursor) yield { id, what: `shown under the cursor ${cursor}, stored under ${row.cursor}` }
    else if (place < last) yield { id, what: 'shown out of order' }
    if (difference !== undefined) yield { id, what: `shown altered: ${difference}` }
    seen.add(id)
    last = Math.max(last, place ?? last)
  }
  for (const { id } of rows) if (!seen.has(id)) yield { id, what: 'never shown' }
}

import type { Stored } from './stored.ts'

/** What an observer can get wrong, as counted in the report. */
type Misreading = 'shown_twice' | 'never_shown' | 'misread'

/**
 * Compares the records that an observer saw with the table. It must see each record exactly once, unaltered, with its cursor and in
 * the order of the feed. So all observers see the same order, and no record that is not committed.
 * @param rows in the order of the feed
 * @returns the records for which this is not true, and what is wrong
 */
export function* compareFeed(
  shown: readonly Stored[],
  rows: readonly Stored[],
): Generator<{ kind: Misreading; id: string; what: string }> {
  const indexes = new Map(rows.map(({ id }, index) => [id, index]))
  const seen = new Set<string>()
  let last = -1
  for (const { id, cursor, difference } of shown) {
    const index = indexes.get(id)
    const row = index === undefined ? undefined : rows[index]
    const misread = (what: string) => ({ kind: 'misread' as const, id, what })
    if (seen.has(id)) yield { kind: 'shown_twice', id, what: 'shown twice' }
    else if (row === undefined || index === undefined) yield misread('shown, but not stored')
    else if (cursor !== row.cursor) yield misread(`shown with the cursor ${cursor}, but stored with ${row.cursor}`)
    else if (index < last) yield misread('shown out of order')
    if (difference !== undefined) yield misread(`shown altered: ${difference}`)
    seen.add(id)
    last = Math.max(last, index ?? last)
  }
  for (const { id } of rows) if (!seen.has(id)) yield { kind: 'never_shown', id, what: 'never shown' }
}

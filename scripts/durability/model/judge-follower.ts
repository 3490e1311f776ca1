import { compareCursors, type Shown } from './contents.ts'
import { type History, identityOf, isDeletable } from './history.ts'
import type { StoredRow } from './verdict.ts'

interface Followed {
  /** For findings. */
  name: string
  /** All records that it saw, in this order. */
  shown: readonly Shown[]
}

/**
 * Compares what a follower saw with the table: each row once, in the order of the rows. So all followers see the same order. Records that
 * retention deletes may be missing, but not be seen twice or out of order: retention commits asynchronously, so a crash can bring back
 * a row that a follower has passed. judgeRound judges contents, and whether a record may be shown at all.
 * @param rows in feed order
 */
export function judgeFollower(history: History, rows: readonly StoredRow[], { name, shown }: Followed): void {
  const seen = new Set<string>()
  let last = ''
  for (const { source, id, cursor } of shown) {
    const wrong = (rule: string) =>
      history.complain(rule, `${name}: at ${cursor}, after ${last}`, identityOf(source, id))
    if (seen.has(cursor)) wrong('A follower must see each record only once.')
    else if (compareCursors(cursor, last) < 0) wrong('A follower must see all records in feed order.')
    else last = cursor
    seen.add(cursor)
  }
  for (const { identity, cursor } of rows)
    if (!seen.has(cursor) && !isDeletable(identity))
      history.complain('A follower must see every record.', `${name}: at ${cursor}`, identity)
}

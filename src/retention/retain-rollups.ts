import { countRollups, deleteRollups, selectSeries } from '../data/delete-rollups.ts'
import type { Database } from '../postgres/tables.ts'
import type { OldRollups } from './policies.ts'
import { repeatPaced } from './repeat-paced.ts'

interface Options {
  /** In milliseconds since 1970. */
  now: number
  dryRun: boolean
  stop: AbortSignal
  /** Called after each transaction, with the number of rollups that were deleted, or would be. */
  onBatch: (rollups: number) => void
}

/**
 * Deletes old rollups, one series after the other, in many small transactions.
 * @returns false if it was stopped before the end; it can be run again
 */
export async function retainRollups(
  db: Database,
  { lengths, maxAgeSeconds }: OldRollups,
  { now, dryRun, stop, onBatch }: Options,
): Promise<boolean> {
  const before = new Date(now - maxAgeSeconds * 1000).toISOString()
  const left = (await selectSeries(db)).flatMap((series) => lengths.map((seconds) => ({ series, seconds, before })))
  return repeatPaced(stop, async (limit) => {
    const [chosen] = left
    if (chosen === undefined) return false
    const rollups = dryRun ? await countRollups(db, chosen) : await deleteRollups(db, chosen, limit)
    if (dryRun || rollups < limit) left.shift()
    onBatch(rollups)
    return true
  })
}

import { setTimeout as sleep } from 'node:timers/promises'
import type { TextPosition } from '../data/deletable.ts'
import { countRecords } from '../data/rollups.ts'
import type { Database } from '../postgres/tables.ts'
import { repeatPaced } from './repeat-paced.ts'

/** How long it waits while an instance of the API counts. */
const WAIT_MS = 100

/**
 * Counts all records before a position, because deleted records can no longer be counted. Usually the API has counted all but those of
 * the last second.
 * @param maxSeries the setting ROLLUP_MAX_SERIES
 * @returns false if it was stopped before the end
 */
export async function countFirst(
  db: Database,
  before: TextPosition,
  maxSeries: number,
  stop: AbortSignal,
): Promise<boolean> {
  for (const part of ['backfill', 'live'] as const) {
    const isWhole = await repeatPaced(stop, async (limit) => {
      const counted = await countRecords(db, { part, limit, maxSeries, before })
      if (counted === undefined) await sleep(WAIT_MS, undefined, { signal: stop }).catch(() => {})
      return counted !== 0
    })
    if (!isWhole) return false
  }
  return true
}

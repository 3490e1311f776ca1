import type { Outcome, Run } from '../table.ts'
import { compareCounting } from './counting.ts'
import { measureReading } from './reading.ts'

/** Measures what the rollups cost, how far they are behind, and how fast they can be read. */
export async function measureStats(run: Run): Promise<Outcome> {
  const counting = await compareCounting(run)
  const reading = await measureReading(run)
  return { rows: [...counting.rows, ...reading.rows], faults: [...counting.faults, ...reading.faults] }
}

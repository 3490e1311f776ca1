import type { Outcome, Run } from '../table.ts'
import { compareCatchUp } from './catch-up.ts'
import { measureLatency } from './latency.ts'
import { measureFollowersMemory } from './memory.ts'
import { compareWithWaiting } from './waiting.ts'

/** Measures the feed in four parts, each with a new server. */
export async function measureFeed(run: Run): Promise<Outcome> {
  const outcomes: Outcome[] = []
  for (const part of [measureLatency, compareWithWaiting, compareCatchUp, measureFollowersMemory])
    outcomes.push(await part(run))
  return { rows: outcomes.flatMap(({ rows }) => rows), faults: outcomes.flatMap(({ faults }) => faults) }
}

import type { Deletion, TextPosition } from '../data/deletable.ts'
import { type DeletedBatch, deleteBatch, type Share } from '../data/delete-records.ts'
import { stepToCutoff } from '../data/find-cutoff.ts'
import { selectHorizon } from '../data/listing.ts'
import { selectTime } from '../data/maintenance.ts'
import type { Database } from '../postgres/tables.ts'
import { countFirst } from './count-first.ts'
import type { Policy } from './policies.ts'
import { repeatPaced } from './repeat-paced.ts'
import { retainRollups } from './retain-rollups.ts'

/** Maximum number of bytes that one transaction deletes: with large records, even few rows are much work. */
const BATCH_BYTES = 8 * 1024 * 1024

/** After this many records in a row that are too young for every policy, no older ones are expected. */
const YOUNG_IN_A_ROW = 10_000

interface RetentionOptions {
  dryRun: boolean
  stop: AbortSignal
  /** The setting ROLLUP_MAX_SERIES. Unless it is 0, records are counted before they are deleted. */
  maxSeries: number
  /** Called after each transaction. */
  onBatch: (batch: DeletedBatch) => void
  /** Called after each transaction that deletes rollups, with the number of the policy. */
  onRollups?: (policy: number, rollups: number) => void
}

/**
 * Deletes the records that the policies select, oldest first, in many small transactions. Each policy is applied independently: a
 * record is deleted if any policy says so. Records that the feed does not show yet at the start are left out. So no record is
 * deleted before a consumer could read it, and concurrent writers do not affect the counts. A policy with keepForConsumers deletes
 * only what every stored consumer has read (deleteBatch).
 *
 * There are two passes over the feed. The first one goes down from the end of the feed, once for each policy with maxCount or
 * maxBytes, and finds its cutoff: the newest record that the policy deletes. The second one goes up from the beginning and
 * deletes.
 * @returns false if it was stopped before the end; it can be run again
 */
export async function retain(db: Database, policies: readonly Policy[], options: RetentionOptions): Promise<boolean> {
  if (policies.length === 0) return true
  const { dryRun, stop, maxSeries, onBatch, onRollups } = options
  const now = await selectTime(db)
  for (const [policy, { rollups }] of policies.entries())
    if (
      rollups &&
      !(await retainRollups(db, rollups, { now, dryRun, stop, onBatch: (count) => onRollups?.(policy, count) }))
    )
      return false
  const ofRecords = policies.filter(({ rollups }) => rollups === undefined)
  if (ofRecords.length === 0) return true
  const horizon: TextPosition = { ...(await selectHorizon(db)), n: MIN_N }
  if (!dryRun && maxSeries > 0 && !(await countFirst(db, horizon, maxSeries, stop))) return false
  const deletions: Deletion[] = []
  for (const { selection, maxAgeSeconds, maxCount, maxBytes, keepForConsumers } of policies) {
    const before = maxAgeSeconds === undefined ? undefined : new Date(now - maxAgeSeconds * 1000).toISOString()
    const upTo = await findCutoff(db, { selection, maxCount, maxBytes }, horizon, stop)
    deletions.push({ selection, before, upTo, keepForConsumers })
  }

  const begun = new Date(now).toISOString()
  const allWait = ofRecords.every(({ keepForConsumers }) => keepForConsumers)
  const end = endOf(deletions)
  let after = START
  let young = end.time === -Infinity ? Infinity : 0
  return repeatPaced(stop, async (limit) => {
    const bounds = { after, until: horizon, limit, maxBytes: BATCH_BYTES }
    const batch = await deleteBatch(db, deletions, bounds, { dryRun, begun })
    if (batch.last === undefined || batch.oldest === null) return false
    onBatch(batch)
    after = batch.last
    // No policy deletes anything after this. Otherwise each run would read all that one slow consumer keeps.
    if (allWait && batch.readByAll !== undefined && isBefore(batch.readByAll, after)) return false
    young = Date.parse(batch.oldest) < end.time ? 0 : young + batch.seen
    return isBefore(after, end.position) || young < YOUNG_IN_A_ROW
  })
}

/** Finds the newest record that exceeds a limit of the policy, which deletes this record and all older ones that it selects. */
async function findCutoff(
  db: Database,
  { selection, maxCount = Infinity, maxBytes = Infinity }: Pick<Policy, 'selection' | 'maxCount' | 'maxBytes'>,
  horizon: TextPosition,
  stop: AbortSignal,
): Promise<TextPosition | undefined> {
  if (maxCount === Infinity && maxBytes === Infinity) return undefined
  let below = horizon
  let cutoff: TextPosition | undefined
  let [records, bytes] = [0, 0]
  await repeatPaced(stop, async (limit) => {
    const left = { maxCount: maxCount - records, maxBytes: maxBytes - bytes }
    const step = await stepToCutoff(db, selection, { below, limit, ...left })
    cutoff = step.cutoff
    records += step.records
    bytes += step.bytes
    below = step.last ?? below
    return cutoff === undefined && step.last !== undefined
  })
  return cutoff
}

/** No policy deletes a record after this position that was received at or after this time. */
function endOf(deletions: readonly Deletion[]): { position: TextPosition; time: number } {
  const positions = deletions.map(({ upTo }) => upTo ?? START)
  return {
    position: positions.reduce((one, other) => (isBefore(one, other) ? other : one)),
    time: Math.max(...deletions.map(({ before }) => (before === undefined ? -Infinity : Date.parse(before)))),
  }
}

const START: TextPosition = { epoch: 0, xid: '0', n: '0' }
const MIN_N = String(-(2n ** 63n))

const isBefore = (one: TextPosition, other: TextPosition): boolean => {
  const [left, right] = [one, other].map(({ epoch, xid, n }) => [BigInt(epoch), BigInt(xid), BigInt(n)]) as [
    bigint[],
    bigint[],
  ]
  const at = left.findIndex((number, index) => number !== right[index])
  return at !== -1 && (left[at] as bigint) < (right[at] as bigint)
}

/** What a policy has deleted so far. The times are undefined until it has deleted a record. */
type Sum = Pick<Share, 'records' | 'bytes'> & Partial<Pick<Share, 'oldest' | 'newest'>> & { deletedRollups?: number }

/** What was deleted so far, in total and per policy. */
export class DeletedTotals {
  records = 0
  bytes = 0
  /** How many of the records that were read stay only because a consumer has not read them. There may be more. */
  kept = 0
  /** The names of consumers that had not read all deleted records. */
  readonly overtaken = new Set<string>()
  readonly shares: Sum[]

  constructor(policies: readonly Policy[]) {
    this.shares = policies.map(() => ({ records: 0, bytes: 0 }))
  }

  addRollups(policy: number, rollups: number): void {
    const sum = this.shares[policy] as Sum
    sum.deletedRollups = (sum.deletedRollups ?? 0) + rollups
  }

  add(batch: DeletedBatch): void {
    this.records += batch.records
    this.bytes += batch.bytes
    this.kept += batch.kept
    for (const name of batch.overtaken) this.overtaken.add(name)
    for (const { policy, records, bytes, oldest, newest } of batch.shares) {
      const sum = this.shares[policy] as Sum
      sum.records += records
      sum.bytes += bytes
      if (sum.oldest === undefined || oldest < sum.oldest) sum.oldest = oldest
      if (sum.newest === undefined || newest > sum.newest) sum.newest = newest
    }
  }
}

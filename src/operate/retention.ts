import { lookDown } from '../data/keep-newest.ts'
import { selectTime } from '../data/maintenance.ts'
import type { Place, Removal } from '../data/removable.ts'
import { type Batch, removeBatch, type Share } from '../data/remove-records.ts'
import type { Database } from '../data/schema.ts'
import { selectHorizon } from '../data/select-records.ts'
import { paced } from './pace.ts'
import type { Policy } from './policies.ts'

/** Bytes that one transaction may remove: with large records, few rows are much to do. */
const BATCH_BYTES = 8 * 1024 * 1024

/** So many records in a row that are too young for every policy are the end of those that are old enough. */
const YOUNG_IN_A_ROW = 10_000

export interface RetentionOptions {
  dryRun: boolean
  stop: AbortSignal
  /** Told after each transaction what it did. */
  onBatch: (batch: Batch) => void
}

/**
 * Removes what the policies say, oldest first, in many small transactions. Each policy is applied for itself: a record is
 * removed when any of them says so. What is not in the feed yet when it begins is not looked at, so that no record goes
 * before a consumer could see it, and none is counted twice or forgotten, whoever writes meanwhile.
 *
 * Two passes over the feed, that do not overlap but for a policy's own: downwards from its end, to find for each policy that
 * keeps the newest where these begin; then upwards from its beginning, to remove.
 * @returns false when it was stopped before the end; it may be run again
 */
export async function retain(
  db: Database,
  policies: readonly Policy[],
  { dryRun, stop, onBatch }: RetentionOptions,
): Promise<boolean> {
  if (policies.length === 0) return true
  const now = await selectTime(db)
  const horizon: Place = { ...(await selectHorizon(db)), n: LOWEST_N }
  const removals: Removal[] = []
  for (const { selection, maxAgeSeconds, maxCount, maxBytes } of policies) {
    const before = maxAgeSeconds === undefined ? undefined : new Date(now - maxAgeSeconds * 1000).toISOString()
    const upTo = await findEdge(db, { selection, maxCount, maxBytes }, horizon, stop)
    removals.push({ selection, before, upTo })
  }

  const end = endOf(removals)
  let after = START
  let young = end.time === -Infinity ? Infinity : 0
  return paced(stop, async (limit) => {
    const bounds = { after, until: horizon, limit, maxBytes: BATCH_BYTES }
    const batch = await removeBatch(db, removals, bounds, { dryRun })
    if (batch.last === undefined) return false
    onBatch(batch)
    after = batch.last
    young = Date.parse(batch.oldest as string) < end.time ? 0 : young + batch.seen
    return isBefore(after, end.place) || young < YOUNG_IN_A_ROW
  })
}

/** Goes down to the newest record with which a policy's limits are passed. It and all that it selects below are removed. */
async function findEdge(
  db: Database,
  { selection, maxCount = Infinity, maxBytes = Infinity }: Pick<Policy, 'selection' | 'maxCount' | 'maxBytes'>,
  horizon: Place,
  stop: AbortSignal,
): Promise<Place | undefined> {
  if (maxCount === Infinity && maxBytes === Infinity) return undefined
  let below = horizon
  let edge: Place | undefined
  let [records, bytes] = [0, 0]
  await paced(stop, async (limit) => {
    const left = { maxCount: maxCount - records, maxBytes: maxBytes - bytes }
    const look = await lookDown(db, selection, { below, limit, ...left })
    edge = look.edge
    records += look.records
    bytes += look.bytes
    below = look.last ?? below
    return edge === undefined && look.last !== undefined
  })
  return edge
}

/** Where no policy removes any more: beyond this place, and when received at or after this time. */
function endOf(removals: readonly Removal[]): { place: Place; time: number } {
  const places = removals.map(({ upTo }) => upTo ?? START)
  return {
    place: places.reduce((one, other) => (isBefore(one, other) ? other : one)),
    time: Math.max(...removals.map(({ before }) => (before === undefined ? -Infinity : Date.parse(before)))),
  }
}

const START: Place = { epoch: 0, xid: '0', n: '0' }
const LOWEST_N = String(-(2n ** 63n))

const isBefore = (one: Place, other: Place): boolean => {
  const [left, right] = [one, other].map(({ epoch, xid, n }) => [BigInt(epoch), BigInt(xid), BigInt(n)]) as [
    bigint[],
    bigint[],
  ]
  const at = left.findIndex((number, index) => number !== right[index])
  return at !== -1 && (left[at] as bigint) < (right[at] as bigint)
}

/** What a policy removed so far; times are undefined as long as that is nothing. */
export type Sum = Pick<Share, 'records' | 'bytes'> & Partial<Pick<Share, 'oldest' | 'newest'>>

/** What was removed so far, all together and by each policy. */
export class Removed {
  records = 0
  bytes = 0
  readonly shares: Sum[]

  constructor(policies: readonly Policy[]) {
    this.shares = policies.map(() => ({ records: 0, bytes: 0 }))
  }

  add(batch: Batch): void {
    this.records += batch.records
    this.bytes += batch.bytes
    for (const { policy, records, bytes, oldest, newest } of batch.shares) {
      const sum = this.shares[policy] as Sum
      sum.records += records
      sum.bytes += bytes
      if (sum.oldest === undefined || oldest < sum.oldest) sum.oldest = oldest
      if (sum.newest === undefined || newest > sum.newest) sum.newest = newest
    }
  }
}

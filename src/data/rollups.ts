import { sql } from 'kysely'
import type { Database } from '../postgres/tables.ts'
import { BUCKET_SECONDS } from '../schemas/stats.ts'
import { positionRow, type TextPosition } from './deletable.ts'
import { HORIZON, inFeedOrder, SETTLED } from './listing.ts'
import { STORED_SIZE } from './record-line.ts'
import { addRollups, addSeries, foldedOf, placesOfType, startOf } from './rollup-rows.ts'

/** `live` counts the records that come in, `backfill` those that were stored before there were rollups. */
export type RollupPart = 'live' | 'backfill'

/** Only one session counts at a time. Any number does, as long as nothing else uses it. */
export const ROLLUP_LOCK = 7_501_320

/** After a batch of old records, this many times as long as it took passes before the next one, whichever instance counts it. */
const BACKFILL_REST = 4

/** Old records may be spread thinly over years. Their minutes would take several rows for each of them. */
const LENGTHS = {
  live: Object.values(BUCKET_SECONDS),
  backfill: [BUCKET_SECONDS.hour, BUCKET_SECONDS.day],
}

/** Beside HORIZON, which also has an epoch and an xid. */
const POSITION = sql`(records.epoch, records.xid, records.n)`

interface Counting {
  part: RollupPart
  /** How many records a transaction counts, or a few more: those that arrive meanwhile. */
  limit: number
  /** Of sluice.series. */
  maxSeries: number
  /** Only records before this position, which is not after the end of the feed. */
  before?: TextPosition
}

interface Progress extends TextPosition {
  until_epoch: number | null
  until_xid: string | null
  until_n: string | null
  is_resting: boolean
}

/** The records of a batch: where they end, and what they add. */
interface Batch extends TextPosition {
  records: number
  /** A JSON array of entries. */
  counted: string
  /** Whether series must be added. */
  has_new: boolean
}

/**
 * Adds the next records to the rollups, and moves the position, in one transaction.
 *
 * The records are read before the transaction gets an id, because the feed waits for a transaction that has one.
 * @returns how many records were counted; undefined if another session counts at this moment, or old records are to rest
 */
export async function countRecords(db: Database, counting: Counting): Promise<number | undefined> {
  const { part, maxSeries, before } = counting
  return db.transaction().execute(async (trx) => {
    const progress = await begin(trx, part)
    // Retention does not wait for the rest: it has its own pace.
    if (progress === undefined || (progress.is_resting && before === undefined)) return undefined
    const last = await selectLast(trx, progress, counting)
    if (last === undefined) {
      if (part === 'backfill' && before === undefined) await finish(trx)
      return 0
    }
    const batch = await aggregate(trx, progress, last, counting)
    if (batch.has_new) await addSeries(trx, batch.counted, maxSeries)
    await addBatch(trx, part, progress, batch)
    return batch.records
  })
}

/**
 * The settings are for this transaction. It need not wait for the disk or a standby: what a crash undoes, it undoes together with the
 * position. The planner cannot tell how many records there are between two positions: from the beginning of the feed on, it expects the
 * whole table. It must use the index of the feed, and not another one that saves it a sort.
 * @returns undefined if another session counts
 */
async function begin(trx: Database, part: RollupPart): Promise<Progress | undefined> {
  const lock = await sql<{ is_first: boolean }>`
    SELECT pg_try_advisory_xact_lock(${ROLLUP_LOCK}) AS is_first, set_config('synchronous_commit', 'off', true),
           set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
           set_config('enable_sort', 'off', true), set_config('enable_incremental_sort', 'off', true),
           set_config('max_parallel_workers_per_gather', '0', true), set_config('jit', 'off', true)`.execute(trx)
  if (lock.rows[0]?.is_first !== true) return undefined
  // In another statement, which sees what the last holder of the lock has committed.
  const { rows } = await sql<Progress>`
    SELECT epoch, xid::text, n::text, until_epoch, until_xid::text, until_n::text, coalesce(now() < rest_until, false) AS is_resting
    FROM sluice.rollup_progress WHERE part = ${part}`.execute(trx)
  return rows[0]
}

/** The end of the next batch; undefined: nothing is left to count. */
async function selectLast(
  trx: Database,
  progress: Progress,
  { limit, before }: Counting,
): Promise<TextPosition | undefined> {
  const { until_epoch: epoch, until_xid: xid, until_n: n } = progress
  const isInPart = epoch === null ? sql`true` : sql`${POSITION} <= (${epoch}::integer, ${xid}::xid8, ${n}::bigint)`
  // What is before `before` is settled: it was the end of the feed.
  const isSettled = before === undefined ? SETTLED : sql`${POSITION} < ${positionRow(before)}`
  const select = (direction: 'asc' | 'desc', offset: number) =>
    // The texts are made outside, because otherwise they would be made of all records up to the offset.
    sql<TextPosition>`
      SELECT last.epoch, last.xid::text, last.n::text FROM (${HORIZON}) AS horizon, LATERAL (
        SELECT epoch, xid, n FROM sluice.records
        WHERE ${POSITION} > ${positionRow(progress)} AND ${isInPart} AND ${isSettled}
        ${inFeedOrder('records', direction)} LIMIT 1 OFFSET ${offset}
      ) AS last`.execute(trx)
  const { rows } = await select('asc', limit - 1)
  return rows[0] ?? (await select('desc', 0)).rows[0]
}

/**
 * Counts the records of a batch per bucket of the smallest length, source and type. A source or a type for which there is no place is ''. Otherwise the result
 * could be as long as the records have different sources.
 */
async function aggregate(
  trx: Database,
  after: TextPosition,
  last: TextPosition,
  { part, maxSeries }: Counting,
): Promise<Batch> {
  const { rows } = await sql<Omit<Batch, keyof TextPosition>>`
    WITH counted AS MATERIALIZED (
      SELECT start, source, type, count(*) AS records, sum(bytes) AS bytes FROM (
        SELECT ${startOf(sql`received_at`, sql.lit(Math.min(...LENGTHS[part])))} AS start, source, type, ${STORED_SIZE} AS bytes FROM sluice.records
        WHERE ${POSITION} > ${positionRow(after)} AND ${POSITION} <= ${positionRow(last)}
        ${inFeedOrder('records', 'asc')}
      ) AS found GROUP BY 1, 2, 3
    ), room AS MATERIALIZED (
      SELECT count(*) < ${maxSeries} AS is_free FROM sluice.series
    ), full_types AS MATERIALIZED (
      SELECT type FROM sluice.series WHERE source <> '' AND type <> '' GROUP BY type HAVING count(*) >= ${placesOfType(maxSeries)}
    ), placed AS (
      SELECT start,
             CASE WHEN whole_source.series IS NOT NULL OR is_free AND full_types.type IS NULL THEN counted.source ELSE '' END AS source,
             CASE WHEN whole_type.series IS NOT NULL OR is_free THEN counted.type ELSE '' END AS type, records, bytes,
             is_free AND (whole_type.series IS NULL OR full_types.type IS NULL AND pair.series IS NULL) AS is_new
      FROM counted CROSS JOIN room
      LEFT JOIN full_types ON full_types.type = counted.type
      LEFT JOIN sluice.series AS pair ON pair.source = counted.source AND pair.type = counted.type
      LEFT JOIN sluice.series AS whole_source ON whole_source.source = counted.source AND whole_source.type = ''
      LEFT JOIN sluice.series AS whole_type ON whole_type.source = '' AND whole_type.type = counted.type
    ), entry AS (
      SELECT start, source, type, sum(records) AS records, sum(bytes) AS bytes, bool_or(is_new) AS is_new FROM placed GROUP BY 1, 2, 3
    )
    SELECT coalesce(sum(records), 0)::integer AS records, coalesce(bool_or(is_new), false) AS has_new,
           coalesce(json_agg(json_build_object('start', start, 'source', source, 'type', type, 'records', records, 'bytes', bytes)), '[]')::text
             AS counted
    FROM entry`.execute(trx)
  return { ...last, ...(rows[0] as Omit<Batch, keyof TextPosition>) }
}

/** @throws Error if another session has moved the position, which the lock excludes */
async function addBatch(trx: Database, part: RollupPart, after: TextPosition, batch: Batch): Promise<void> {
  const { counted, records, epoch, xid, n } = batch
  await addRollups(trx, counted, LENGTHS[part])
  const rest = part === 'backfill' ? sql`clock_timestamp() + ${BACKFILL_REST} * (clock_timestamp() - now())` : sql`NULL`
  const { numAffectedRows } = await sql`
    UPDATE sluice.rollup_progress
    SET epoch = ${epoch}::integer, xid = ${xid}::xid8, n = ${n}::bigint, rest_until = ${rest},
        records = records + ${records}::bigint, folded = folded + ${foldedOf(counted)}
    WHERE part = ${part} AND (epoch, xid, n) = ${positionRow(after)}`.execute(trx)
  if (numAffectedRows !== 1n) throw new Error('the position of the rollups was moved by another session')
}

/**
 * Nothing is left to count. Not if the feed does not show all old records yet: in a restored database, it shows them only when a new
 * epoch begins.
 */
async function finish(trx: Database): Promise<void> {
  await sql`
    UPDATE sluice.rollup_progress SET epoch = until_epoch, xid = until_xid, n = until_n FROM (${HORIZON}) AS horizon
    WHERE part = 'backfill' AND (rollup_progress.epoch, rollup_progress.xid, n) < (until_epoch, until_xid, until_n)
      AND (until_epoch, until_xid) < (horizon.epoch, horizon.xid)`.execute(trx)
}

/** Records that were sent and not stored, of one source and type in one minute. Each text is '' if it is not known. */
export interface Entry {
  /** The beginning of the minute, as RFC 3339. */
  start: string
  source: string
  type: string
  duplicates: number
  rejected: number
}

/** Adds what was sent and not stored. Only to series that exist: anybody can send a record that is rejected. */
export const addUnstored = (db: Database, entries: readonly Entry[]): Promise<void> =>
  addRollups(db, JSON.stringify(entries), LENGTHS.live)

import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import { withConnection } from '../../../src/commands/database.ts'
import { type RollupState, selectRollupState } from '../../../src/data/rollup-state.ts'
import { ROLLUP_LOCK } from '../../../src/data/rollups.ts'
import type { Database } from '../../../src/postgres/tables.ts'
import { start } from '../processes.ts'
import type { Measurement, Order } from '../requests/measure.ts'
import { startServer } from '../servers/start.ts'
import { median, medianRatio, type Outcome, type Run, rounded, type TableRow } from '../table.ts'
import { countWrong, storeOld } from './old-records.ts'

const CONNECTIONS = 64

/** Time between two looks at the progress. */
const LOOK_MS = 500
/** Without progress for this time, the backfill is considered stuck. */
const STUCK_MS = 60_000

const WAYS = ['paused', 'running'] as const
type Way = (typeof WAYS)[number]

interface Measured extends Measurement {
  /** How many old records were counted meanwhile. */
  counted: number
}

/**
 * Measures single records while the records from before the rollups are counted in the background, and while this is paused. Then it waits
 * until all are counted, and compares the statistics with the table.
 */
export async function measureBackfill({ database, options }: Run): Promise<Outcome> {
  const { oldRecords: old, seconds } = options
  await database.empty()
  return withConnection(database.ownerUrl, async (db) => {
    console.error(`storing ${old} records`)
    await storeOld(db, old)
    const load = await start('requests/load.ts')
    const server = await startServer('ours', database, options.profile)
    const order: Order = { port: server.port, key: database.key, connections: CONNECTIONS, size: 1, seconds }
    const measured: Record<Way, Measured[]> = { paused: [], running: [] }
    const faults: string[] = []
    let acknowledged = 0
    for (let round = 0; round <= options.rounds; round++) {
      for (const way of round % 2 === 0 ? WAYS : WAYS.toReversed()) {
        await pauseUntil(db, way === 'paused' ? 'infinity' : null)
        const before = await readCounted(db, old)
        const measurement = await load.ask<Measurement>(order)
        const counted = (await readCounted(db, old)) - before
        acknowledged += measurement.acknowledged
        if (measurement.failures > 0)
          faults.push(`backfill ${way}: ${measurement.failures} requests failed (${measurement.failure})`)
        const name = round === 0 ? 'warm-up' : `round ${round}`
        console.error(`${name} backfill ${way}: ${Math.round(measurement.rate)} records/s, ${counted} counted`)
        if (round > 0) measured[way].push({ ...measurement, counted })
      }
    }
    if (measured.running.some(({ counted }) => counted === 0))
      faults.push(
        'backfill: in a round, no old record was left to count, or none was counted: --old-records, --seconds',
      )
    const rate = await finish(db, old)
    const [wrong, stored] = [await countWrong(db), await database.count('ours')]
    if (wrong > 0)
      faults.push(`backfill: the records of ${wrong} hours, sources and types are not counted exactly once`)
    if (stored !== old + acknowledged)
      faults.push(`backfill: ${old} + ${acknowledged} records should be stored, but ${stored} are`)
    await Promise.all([load, server.child].map((child) => child.stop()))
    await database.empty()
    return { rows: [...WAYS.map((way) => toRow(measured, way)), { name: 'backfill alone', rate, ratios: {} }], faults }
  })
}

/** @param time of PostgreSQL; null: the backfill goes on now */
async function pauseUntil(db: Database, time: 'infinity' | null): Promise<void> {
  await db.transaction().execute(async (trx) => {
    // A batch that is counted at this moment sets the time as well.
    await sql`SELECT pg_advisory_xact_lock(${ROLLUP_LOCK})`.execute(trx)
    await sql`UPDATE sluice.rollup_progress SET rest_until = ${time}::timestamptz WHERE part = 'backfill'`.execute(trx)
  })
}

const readCounted = async (db: Database, old: number) => countedOf(await selectRollupState(db), old)

const countedOf = ({ backfill }: RollupState, old: number) => backfill?.records ?? old

/**
 * Waits until everything is counted, without other load.
 * @returns how many old records were counted per second, pauses included
 * @throws Error if no more are counted
 */
async function finish(db: Database, old: number): Promise<number> {
  await pauseUntil(db, null)
  const begin = performance.now()
  const first = await readCounted(db, old)
  let [counted, seconds, progressAt] = [first, 0, begin]
  for (let isDone = false; !isDone; await sleep(LOOK_MS)) {
    const state = await selectRollupState(db)
    const now = countedOf(state, old)
    if (now > counted) {
      progressAt = performance.now()
      seconds = (progressAt - begin) / 1000
    }
    counted = now
    isDone = state.backfill === undefined && state.lagSeconds === 0
    if (!isDone && performance.now() - progressAt > STUCK_MS)
      throw new Error(`the backfill makes no progress: ${counted} of ${old} old records are counted`)
  }
  console.error(`the other ${old - first} records were counted in ${Math.round(seconds)} s`)
  return seconds === 0 ? 0 : Math.round((old - first) / seconds)
}

function toRow(measured: Record<Way, Measured[]>, way: Way): TableRow {
  const all = (key: 'rate' | 'p50_ms' | 'p99_ms', of: Way = way) => measured[of].map((measurement) => measurement[key])
  return {
    name: `backfill ${way}`,
    rate: Math.round(median(all('rate'))),
    p50_ms: rounded(median(all('p50_ms'))),
    p99_ms: rounded(median(all('p99_ms'))),
    ratios: { paused: medianRatio(all('rate'), all('rate', 'paused')) },
  }
}

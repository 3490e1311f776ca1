import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import { withConnection } from '../../../src/commands/database.ts'
import { ROLLUP_LOCK } from '../../../src/data/rollups.ts'
import type { Database } from '../../../src/postgres/tables.ts'
import { start } from '../processes.ts'
import type { Measurement, Order } from '../requests/measure.ts'
import { startServer } from '../servers/start.ts'
import { median, medianRatio, type Outcome, type Run, rounded, type TableRow } from '../table.ts'

const RECORDS = 10_000_000
const CONNECTIONS = 64
/** Larger than all numbers from which the load derives its ids. */
const FIRST_SEED = 2 ** 31

/** Between two looks at the progress. */
const LOOK_MS = 500
/** A backfill that makes no progress for this time makes none at all. */
const STUCK_MS = 60_000

const WAYS = ['paused', 'running'] as const
type Way = (typeof WAYS)[number]

/**
 * Measures single records while the records from before the rollups are counted in the background, and while this is paused. Then it waits
 * until all are counted, and compares the statistics with the table.
 */
export async function measureBackfill({ database, options }: Run): Promise<Outcome> {
  const stored = 2 * Math.round((options.records ?? RECORDS) / 2)
  const measured: Record<Way, Measurement[]> = { paused: [], running: [] }
  const faults: string[] = []
  await database.empty()
  console.error(`storing ${stored} records`)
  await database.seed(stored, FIRST_SEED)
  return withConnection(database.ownerUrl, async (db) => {
    await forgetCounts(db)
    const load = await start('requests/load.ts')
    const server = await startServer('ours', database, options.profile)
    const order: Order = {
      port: server.port,
      key: database.key,
      connections: CONNECTIONS,
      size: 1,
      seconds: options.seconds,
    }
    let acknowledged = 0
    for (let round = 0; round <= options.rounds; round++) {
      for (const way of round % 2 === 0 ? WAYS : WAYS.toReversed()) {
        await rest(db, way === 'paused')
        const before = await readCounted(db)
        if (before >= stored)
          throw new Error('all old records were counted before the last round: store more (--records)')
        if (way === 'running') await untilMore(db, before)
        const measurement = await load.ask<Measurement>(order)
        const counted = (await readCounted(db)) - before
        acknowledged += measurement.acknowledged
        const name = round === 0 ? 'warm-up' : `round ${round}`
        console.error(`${name} backfill ${way}: ${Math.round(measurement.rate)} records/s, ${counted} counted`)
        if (measurement.failures > 0)
          faults.push(`backfill ${way}: ${measurement.failures} requests failed (${measurement.failure})`)
        if (round > 0) measured[way].push(measurement)
      }
    }
    const alone = await finish(db, stored)
    faults.push(...(await compare(db, stored, acknowledged)))
    await Promise.all([load, server.child].map((child) => child.stop()))
    return {
      rows: [...WAYS.map((way) => toRow(measured, way)), { name: 'backfill alone', ...alone, ratios: {} }],
      faults,
    }
  })
}

/** As after the migration that creates the rollups: what is stored is for the backfill. */
async function forgetCounts(db: Database): Promise<void> {
  await sql`TRUNCATE sluice.rollups`.execute(db)
  await sql`
    UPDATE sluice.rollup_progress AS progress
    SET epoch = CASE part WHEN 'live' THEN last.epoch ELSE 0 END, xid = CASE part WHEN 'live' THEN last.xid ELSE '0' END,
        n = CASE part WHEN 'live' THEN last.n ELSE 0 END, records = 0, folded = 0, rest_until = NULL,
        until_epoch = CASE part WHEN 'backfill' THEN last.epoch END, until_xid = CASE part WHEN 'backfill' THEN last.xid END,
        until_n = CASE part WHEN 'backfill' THEN last.n END
    FROM (SELECT epoch, xid, n FROM sluice.records ORDER BY epoch DESC, xid DESC, n DESC LIMIT 1) AS last`.execute(db)
}

/** Pauses the backfill, or lets it go on. */
async function rest(db: Database, isPaused: boolean): Promise<void> {
  await db.transaction().execute(async (trx) => {
    // A batch that is counted at this moment sets the rest again.
    await sql`SELECT pg_advisory_xact_lock(${ROLLUP_LOCK})`.execute(trx)
    const until = isPaused ? 'infinity' : null
    await sql`UPDATE sluice.rollup_progress SET rest_until = ${until}::timestamptz WHERE part = 'backfill'`.execute(trx)
  })
}

async function readCounted(db: Database): Promise<number> {
  const { rows } = await sql<{ records: string }>`
    SELECT records::text FROM sluice.rollup_progress WHERE part = 'backfill'`.execute(db)
  return Number(rows[0]?.records)
}

/** @throws Error if no more records are counted */
async function untilMore(db: Database, before: number): Promise<number> {
  for (const begin = performance.now(); performance.now() - begin < STUCK_MS; await sleep(LOOK_MS)) {
    const counted = await readCounted(db)
    if (counted > before) return counted
  }
  throw new Error(`the backfill makes no progress: ${before} old records are counted`)
}

/** Waits for the rest, without other load. @returns how many records per second were counted, pauses included */
async function finish(db: Database, stored: number): Promise<{ rate: number }> {
  await rest(db, false)
  const [first, begin] = [await readCounted(db), performance.now()]
  for (let counted = first; counted < stored; ) counted = await untilMore(db, counted)
  const seconds = (performance.now() - begin) / 1000
  console.error(`the other ${stored - first} records were counted in ${Math.round(seconds)} s`)
  return { rate: Math.round((stored - first) / seconds) }
}

/** The new records are counted a second or two after their commit. */
async function compare(db: Database, stored: number, acknowledged: number): Promise<string[]> {
  const expected = stored + acknowledged
  let counted = 0
  for (const begin = performance.now(); performance.now() - begin < STUCK_MS; await sleep(LOOK_MS)) {
    const { rows } = await sql<{ records: string }>`
      SELECT sum(records)::text AS records FROM sluice.rollups JOIN sluice.series USING (series)
      WHERE source = '' AND type = '' AND seconds = 86400`.execute(db)
    counted = Number(rows[0]?.records)
    if (counted >= expected) break
  }
  return counted === expected ? [] : [`${expected} records are stored, but ${counted} are counted`]
}

function toRow(measured: Record<Way, Measurement[]>, way: Way): TableRow {
  const all = (key: 'rate' | 'p50_ms' | 'p99_ms', of: Way = way) => measured[of].map((measurement) => measurement[key])
  return {
    name: `backfill ${way}`,
    rate: Math.round(median(all('rate'))),
    p50_ms: rounded(median(all('p50_ms'))),
    p99_ms: rounded(median(all('p99_ms'))),
    ratios: { paused: medianRatio(all('rate'), all('rate', 'paused')) },
  }
}

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Program, run, start } from '../processes.ts'
import type { Measurement, Order } from '../requests/measure.ts'
import { startServer } from '../servers/start.ts'
import { median, medianRatio, type Outcome, type Run, rounded, type TableRow } from '../table.ts'

const CONNECTIONS = 64

/** Larger than all numbers from which the load derives its ids. */
const FIRST_SEED = 2 ** 31

const POLICIES = '[{ "type": "order.placed", "maxAge": "30d" }]'

/** If retention has not finished after this many rounds, it never will. */
const MAX_ROUNDS = 500

type Way = 'without' | 'with'

/**
 * Measures single records while retention deletes half of the stored records, and without retention. A round first measures
 * without retention. Then it starts `sluice maintain`, measures, and stops it; in the next round, `maintain` continues where it
 * stopped. After the last record is deleted, VACUUM runs to its end.
 */
export async function compareWithRetention({ database, options }: Run): Promise<Outcome> {
  const { seconds, profile } = options
  const stored = 2 * Math.round(options.stored / 2)
  const measured: Record<Way, Measurement[]> = { without: [], with: [] }
  let acknowledged = 0
  let failures = 0
  await database.empty()
  console.error(`storing ${stored} records`)
  await database.seed(stored, FIRST_SEED)
  const folder = await mkdtemp(join(tmpdir(), 'sluice-bench-'))
  const policies = join(folder, 'policies.json')
  await writeFile(policies, POLICIES)
  const load = await start('requests/load.ts')
  const server = await startServer('ours', database, profile)

  try {
    await measure('warm-up')
    for (let round = 1, done = false; !done; round++) {
      if (round > MAX_ROUNDS) throw new Error(`retention did not finish in ${MAX_ROUNDS} rounds`)
      const without = await measure(`round ${round} without`)
      const maintain = run(['maintain', '--policies', policies], {
        DATABASE_URL: database.maintenanceUrl,
        LOG_LEVEL: 'debug',
      })
      await maintain.hasWritten('processed a batch')
      do {
        const name = hasOnlyToVacuum(maintain) ? 'with, VACUUM' : 'with'
        const measurement = await measure(`round ${round} ${name}`)
        // If maintain ended during the measurement, the measurement counts only if there is no other.
        if (maintain.code() === null || measured.with.length === 0) {
          measured.without.push(without)
          measured.with.push(measurement)
        }
      } while (hasOnlyToVacuum(maintain))
      await maintain.stop()
      const deleted = deletedBy(maintain)
      if (deleted === undefined) throw new Error(`maintain failed: ${maintain.errors()}`)
      console.error(`round ${round} deleted ${deleted} records`)
      done = maintain.code() === 0
    }
  } finally {
    await rm(folder, { recursive: true })
  }
  await Promise.all([load, server.child].map((child) => child.stop()))

  const faults = await findLost()
  if (failures > 0) faults.push(`${failures} requests failed: the latencies of retention cannot be compared`)
  return { rows: toRows(measured), faults }

  async function measure(name: string): Promise<Measurement> {
    const order: Order = { port: server.port, key: database.key, connections: CONNECTIONS, size: 1, seconds }
    const measurement = await load.ask<Measurement>(order)
    acknowledged += measurement.acknowledged
    failures += measurement.failures
    const { rate, p50_ms, p99_ms } = measurement
    console.error(`${name}: ${Math.round(rate)} records/s, p50 ${p50_ms.toFixed(1)} ms, p99 ${p99_ms.toFixed(1)} ms`)
    return measurement
  }

  /** The newer half of the seeded records, and every record that was acknowledged since, must be stored. */
  async function findLost(): Promise<string[]> {
    const [left, expected] = [await database.count('ours'), stored / 2 + acknowledged]
    return left === expected ? [] : [`${stored / 2} + ${acknowledged} records should be left, but ${left} are`]
  }
}

/** Reads the number of deleted records from the line that maintain logs before VACUUM. */
function deletedBy(maintain: Program): number | undefined {
  const line = /^.*"deleted in total".*$/m.exec(maintain.output())
  return line === null ? undefined : JSON.parse(line[0]).records
}

const hasOnlyToVacuum = (maintain: Program) => deletedBy(maintain) !== undefined && maintain.code() === null

function toRows(measured: Record<Way, Measurement[]>): TableRow[] {
  return (['without', 'with'] as const).map((way) => {
    const all = (key: 'rate' | 'p50_ms' | 'p99_ms', of: Way = way) =>
      measured[of].map((measurement) => measurement[key])
    return {
      name: `retention ${way}`,
      rate: Math.round(median(all('rate'))),
      p50_ms: rounded(median(all('p50_ms'))),
      p99_ms: rounded(median(all('p99_ms'))),
      ratios: {
        without: medianRatio(all('rate'), all('rate', 'without')),
        'p99 without': medianRatio(all('p99_ms'), all('p99_ms', 'without')),
      },
    }
  })
}

import { start } from '../processes.ts'
import type { Usage } from '../servers/serve.ts'
import { startServer } from '../servers/start.ts'
import { median, medianRatio, type Outcome, type Run, rounded } from '../table.ts'
import type { Received, Task } from './reader.ts'

const RECORDS = 1_000_000

/** All records as lines and as pages of the feed, and with COPY. */
const WAYS = ['lines', 'pages', 'copy'] as const
type Way = (typeof WAYS)[number]

interface Measured {
  rate: number
  /** Processor time of the server per record, in microseconds. */
  cpu_us: number
}

/** Compares the rate at which one client reads the whole feed with COPY of the same columns to the same client. */
export async function compareCatchUp({ database, options }: Run): Promise<Outcome> {
  const stored = 2 * Math.round((options.records ?? RECORDS) / 2)
  const measured: Record<Way, Measured[]> = { lines: [], pages: [], copy: [] }
  await database.empty()
  console.error(`storing ${stored} records`)
  await database.seed(stored, 0)
  const [server, reader] = await Promise.all([startServer('ours', database, options.profile), start('feed/reader.ts')])

  // Without a warm-up: each measurement takes so long that its beginning does not matter.
  for (let round = 1; round <= options.rounds; round++) {
    for (const way of round % 2 === 1 ? WAYS : WAYS.toReversed()) {
      const one = await measure(way)
      console.error(
        `round ${round} feed ${way}: ${Math.round(one.rate)} records/s, ${one.cpu_us.toFixed(1)} µs of CPU per record`,
      )
      measured[way].push(one)
    }
  }
  await reader.stop()
  await server.child.stop()

  const rates = (way: Way) => measured[way].map(({ rate }) => rate)
  const rows = WAYS.map((way) => ({
    name: `feed ${way}`,
    rate: Math.round(median(rates(way))),
    ...(way === 'copy' ? {} : { cpu_us: rounded(median(measured[way].map(({ cpu_us }) => cpu_us))) }),
    ratios: { copy: medianRatio(rates(way), rates('copy')) },
  }))
  return { rows, faults: [] }

  async function measure(way: Way): Promise<Measured> {
    const task: Task =
      way === 'copy' ? { kind: way, url: database.ownerUrl } : { kind: way, port: server.port, key: database.key }
    const before = await server.child.ask<Usage>({})
    const { records, seconds } = await reader.ask<Received>(task)
    const after = await server.child.ask<Usage>({})
    if (records !== stored) throw new Error(`feed ${way}: ${stored} records are stored, ${records} were read`)
    return { rate: records / seconds, cpu_us: (after.cpu - before.cpu) / records }
  }
}

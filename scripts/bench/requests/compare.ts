import { type Child, start } from '../processes.ts'
import type { Usage } from '../servers/serve.ts'
import { type Server, type ServerName, startServer } from '../servers/start.ts'
import { median, medianRatio, type Outcome, type Run, rounded, type TableRow } from '../table.ts'
import type { Measurement, Order } from './measure.ts'

interface Comparison {
  /** Records per request. */
  size: number
  /** Each server is measured in every round. */
  servers: readonly ServerName[]
  /** The servers that the others are compared with. */
  baselines: readonly ServerName[]
}

const COMPARISONS = {
  single: { size: 1, servers: ['limit', 'naive', 'ours'], baselines: ['limit', 'naive'] },
  batch: { size: 100, servers: ['limit', 'naive', 'ours'], baselines: ['limit', 'naive'] },
  observability: { size: 1, servers: ['unobserved', 'ours'], baselines: ['unobserved'] },
} as const satisfies Record<string, Comparison>

interface Measured extends Measurement {
  /** Processor time of the server per record, in microseconds. It depends less on other load on the machine than the rate. */
  cpu_us: number
}

/** The table of each server. `limit` stores nothing. */
const TABLES = { naive: 'rival', ours: 'ours', unobserved: 'ours' } as const

const CONNECTIONS = 64

/** Compares the rates of several servers with many small requests. */
export async function compareServers(of: keyof typeof COMPARISONS, { database, options }: Run): Promise<Outcome> {
  const { size, servers: names, baselines }: Comparison = COMPARISONS[of]
  const measured: Record<ServerName, Measured[]> = { limit: [], naive: [], ours: [], unobserved: [] }
  const acknowledged = { limit: 0, naive: 0, ours: 0, unobserved: 0 }
  let failures = 0
  await database.empty()
  // New processes for each comparison, because code that V8 optimized for single records is not optimal for batches.
  const load = await start('requests/load.ts')
  const servers = await Promise.all(names.map((name) => startServer(name, database, options.profile)))

  // The servers alternate, so that other load on the machine affects all of them equally.
  for (let round = 0; round <= options.rounds; round++) {
    // Every other round has the opposite order, so that no server always runs after the same other server.
    const inOrder = [...names.entries()]
    for (const [index, name] of round % 2 === 0 ? inOrder : inOrder.toReversed()) {
      const measurement = await measure(load, servers[index] as Server)
      acknowledged[name] += measurement.acknowledged
      failures += measurement.failures
      // The first round only warms up the compiler and the caches.
      console.error(`${round === 0 ? 'warm-up' : `round ${round}`} ${of} ${name}: ${inWords(measurement)}`)
      if (round > 0) measured[name].push(measurement)
    }
  }
  await Promise.all([load, ...servers.map(({ child }) => child)].map((child) => child.stop()))

  const faults = await findLost()
  if (failures > 0) faults.push(`${failures} requests failed: the rates of ${of} cannot be compared`)
  return { rows: names.map((name) => toRow(name)), faults }

  async function measure(load: Child, { port, child }: Server): Promise<Measured> {
    const order: Order = {
      port,
      key: database.key,
      connections: CONNECTIONS,
      size,
      seconds: options.seconds,
    }
    const before = await child.ask<Usage>({})
    const measurement = await load.ask<Measurement>(order)
    const after = await child.ask<Usage>({})
    return { ...measurement, cpu_us: (after.cpu - before.cpu) / measurement.acknowledged }
  }

  /** 2xx must mean committed under load as well. The same goes for the naive server, or its rate would prove nothing. */
  async function findLost(): Promise<string[]> {
    const lost: string[] = []
    for (const table of new Set(names.flatMap((name) => (name === 'limit' ? [] : TABLES[name])))) {
      const writers = names.filter((name) => name !== 'limit' && TABLES[name] === table)
      const sum = writers.reduce((sum, name) => sum + acknowledged[name], 0)
      const stored = await database.count(table)
      if (stored === sum) continue
      lost.push(`The ${writers.join(' or ')} server acknowledged ${sum} records, but ${stored} are stored`)
    }
    return lost
  }

  function toRow(name: ServerName): TableRow {
    const rates = (name: ServerName) => measured[name].map(({ rate }) => rate)
    return {
      name: `${of} ${name}`,
      rate: Math.round(median(rates(name))),
      p50_ms: rounded(median(measured[name].map(({ p50_ms }) => p50_ms))),
      p99_ms: rounded(median(measured[name].map(({ p99_ms }) => p99_ms))),
      cpu_us: rounded(median(measured[name].map(({ cpu_us }) => cpu_us))),
      ratios: Object.fromEntries(baselines.map((other) => [other, medianRatio(rates(name), rates(other))])),
    }
  }
}

function inWords({ rate, p99_ms, cpu_us, failures, failure }: Measured): string {
  const failed = failures > 0 ? `, ${failures} failed, the first with ${failure}` : ''
  return `${Math.round(rate)} records/s, p99 ${p99_ms.toFixed(1)} ms, ${cpu_us.toFixed(1)} µs of CPU per record${failed}`
}

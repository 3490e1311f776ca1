import { type Child, start } from '../processes.ts'
import { SERVERS, type Server, type ServerName, startServer } from '../servers/start.ts'
import { median, medianRatio, type Outcome, type Row, type Run, rounded } from '../table.ts'
import type { Measurement, Order } from './load.ts'

/** Records in one request. */
const SHAPES = { single: 1, batch: 100 } as const
type Shape = keyof typeof SHAPES

const CONNECTIONS = 64

/** Records a second in many small requests: three servers, each measured in every round. */
export async function compareServers(shape: Shape, { database, options }: Run): Promise<Outcome> {
  const measured: Record<ServerName, Measurement[]> = { limit: [], naive: [], ours: [] }
  const acknowledged = { limit: 0, naive: 0, ours: 0 }
  let failures = 0
  await database.empty()
  // New processes for each shape: code that was compiled for single records is not the best for batches.
  const load = await start('requests/load.ts')
  const servers = await Promise.all(SERVERS.map((name) => startServer(name, database, options.profile)))

  // Alternates, so that whatever else the machine does meanwhile hits all three alike.
  for (let round = 0; round <= options.rounds; round++) {
    for (const [index, name] of SERVERS.entries()) {
      const measurement = await measure(load, servers[index] as Server)
      acknowledged[name] += measurement.acknowledged
      failures += measurement.failures
      // The first round lets the compiler and the caches warm up.
      console.error(`${round === 0 ? 'warm-up' : `round ${round}`} ${shape} ${name}: ${inWords(measurement)}`)
      if (round > 0) measured[name].push(measurement)
    }
  }
  await Promise.all([load, ...servers.map(({ child }) => child)].map((child) => child.stop()))

  const faults = await findLost()
  if (failures > 0) faults.push(`${failures} requests failed: the rates of ${shape} cannot be compared`)
  return { rows: toRows(shape, measured), faults }

  function measure(load: Child, { port }: Server): Promise<Measurement> {
    const order: Order = {
      port,
      key: database.key,
      connections: CONNECTIONS,
      size: SHAPES[shape],
      seconds: options.seconds,
    }
    return load.ask<Measurement>(order)
  }

  /** 2xx means committed, under load too. The naive server is held to the same, else its rate would prove nothing. */
  async function findLost(): Promise<string[]> {
    const stored = { naive: await database.count('rival'), ours: await database.count('ours') }
    return (['naive', 'ours'] as const)
      .filter((name) => stored[name] !== acknowledged[name])
      .map((name) => `The ${name} server acknowledged ${acknowledged[name]} records, but ${stored[name]} are stored`)
  }
}

function toRows(shape: string, measured: Record<ServerName, Measurement[]>): Row[] {
  const rates = (name: ServerName) => measured[name].map(({ rate }) => rate)
  return SERVERS.map((name) => ({
    name: `${shape} ${name}`,
    rate: Math.round(median(rates(name))),
    p50_ms: rounded(median(measured[name].map(({ p50_ms }) => p50_ms))),
    p99_ms: rounded(median(measured[name].map(({ p99_ms }) => p99_ms))),
    ratios: { limit: medianRatio(rates(name), rates('limit')), naive: medianRatio(rates(name), rates('naive')) },
  }))
}

function inWords({ rate, p99_ms, failures, failure }: Measurement): string {
  const failed = failures > 0 ? `, ${failures} failed, the first with ${failure}` : ''
  return `${Math.round(rate)} records/s, p99 ${p99_ms.toFixed(1)} ms${failed}`
}

import { writeFile } from 'node:fs/promises'
import { Command, InvalidArgumentError, Option } from 'commander'
import { explain } from '../../src/commands/database.ts'
import { type BenchDatabase, openBenchDatabase } from './database.ts'
import type { Measurement, Order } from './load.ts'
import { type Child, start, stopAll } from './processes.ts'
import { type Row, SERVERS, type ServerName, toRows, toTable } from './table.ts'

/** Records in one request. */
const SHAPES = { single: 1, batch: 100 } as const
type Shape = keyof typeof SHAPES

const CONNECTIONS = 64

interface Options {
  rounds: number
  seconds: number
  only?: Shape
  json?: string
  profile?: string
}

const program = new Command('bench')
  .description(
    `Records a second over ${CONNECTIONS} connections: a server that stores nothing (limit), one insert a request (naive), ` +
      'and this program (ours). Uses DATABASE_URL, in a database of its own, else an embedded PostgreSQL.',
  )
  .option('--rounds <n>', 'measurements of each server, whose median is shown', positive, 3)
  .option('--seconds <n>', 'length of a measurement', positive, 4)
  .addOption(new Option('--only <shape>', 'one record a request, or 100').choices(Object.keys(SHAPES)))
  .option('--json <file>', 'write the table there too')
  .option('--profile <folder>', 'write a CPU profile of our server there')

// Whoever waits for an answer of a process that was stopped fails, and so the run ends through its finally blocks.
let interrupted: NodeJS.Signals | undefined
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    interrupted = signal
    void stopAll()
  })
}

bench(program.parse().opts<Options>()).catch((error) => {
  console.error(interrupted === undefined ? `bench: ${explain(error)}.` : `bench: ended by ${interrupted}.`)
  process.exitCode = 1
})

async function bench({ rounds, seconds, only, json, profile }: Options): Promise<void> {
  const database = await openBenchDatabase()
  const rows: Row[] = []
  const acknowledged = { limit: 0, naive: 0, ours: 0 }
  let failed = 0
  try {
    const load = await start('load.ts')
    for (const shape of only === undefined ? (Object.keys(SHAPES) as Shape[]) : [only]) {
      const measured = await compare(shape, load)
      rows.push(...toRows(shape, measured))
    }
    await load.stop()

    console.log(`${toTable(rows)}\n\n${await database.describe()}`)
    if (json !== undefined) await writeFile(json, `${JSON.stringify(rows, null, 2)}\n`)
    await checkNothingIsLost(database, acknowledged)
    if (failed > 0) throw new Error(`${failed} requests failed: the rates cannot be compared`)
  } finally {
    await stopAll()
    await database.drop()
  }

  /** Alternates, so that whatever else the machine does meanwhile hits all three alike. */
  async function compare(shape: Shape, load: Child): Promise<Record<ServerName, Measurement[]>> {
    const measured: Record<ServerName, Measurement[]> = { limit: [], naive: [], ours: [] }
    // New processes for each shape: code that was compiled for single records is not the best for batches.
    const servers = await Promise.all(SERVERS.map((name) => startServer(name, database, profile)))
    for (let round = 0; round <= rounds; round++) {
      for (const [index, name] of SERVERS.entries()) {
        const { port } = servers[index] as Server
        const order: Order = { port, key: database.key, connections: CONNECTIONS, size: SHAPES[shape], seconds }
        const measurement = await load.ask<Measurement>(order)
        acknowledged[name] += measurement.acknowledged
        failed += measurement.failures
        // The first round lets the compiler and the caches warm up.
        console.error(`${round === 0 ? 'warm-up' : `round ${round}`} ${shape} ${name}: ${inWords(measurement)}`)
        if (round > 0) measured[name].push(measurement)
      }
    }
    await Promise.all(servers.map(({ child }) => child.stop()))
    return measured
  }
}

interface Server {
  child: Child
  port: number
}

async function startServer(name: ServerName, { apiUrl, ownerUrl }: BenchDatabase, profile?: string): Promise<Server> {
  const execArgv = name === 'ours' && profile !== undefined ? ['--cpu-prof', `--cpu-prof-dir=${profile}`] : []
  const child = await start(`servers/${name}.ts`, {
    env: { DATABASE_URL: name === 'naive' ? ownerUrl : apiUrl },
    execArgv,
  })
  return { child, port: child.ready as number }
}

/** 2xx means committed, under load too. The naive server is held to the same, else its rate would prove nothing. */
async function checkNothingIsLost(database: BenchDatabase, acknowledged: Record<ServerName, number>): Promise<void> {
  for (const name of ['naive', 'ours'] as const) {
    const stored = await database.count(name)
    if (stored !== acknowledged[name]) {
      throw new Error(`The ${name} server acknowledged ${acknowledged[name]} records, but ${stored} are stored`)
    }
  }
}

function inWords({ rate, p99_ms, failures, failure }: Measurement): string {
  const failed = failures > 0 ? `, ${failures} failed, the first with ${failure}` : ''
  return `${Math.round(rate)} records/s, p99 ${p99_ms.toFixed(1)} ms${failed}`
}

function positive(text: string): number {
  const value = Number(text)
  if (!(value > 0)) throw new InvalidArgumentError('It must be a number above 0.')
  return value
}

import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import { withConnection } from '../../../src/commands/database.ts'
import { type Network, openNetwork } from '../../durability/proxy.ts'
import type { BenchDatabase } from '../database.ts'
import { peakWhile } from '../memory/rss.ts'
import { type Child, start } from '../processes.ts'
import { type Server, startServer } from '../servers/start.ts'
import type { Outcome, Run, TableRow } from '../table.ts'
import type { Tally } from './attack.ts'
import type { Order as AttackerOrder } from './attacker.ts'
import { type Order as BystanderOrder, KNOWN, type Latencies, type Witnessed } from './bystander.ts'
import { findFaults, inMiB } from './faults.ts'
import { FLOODS, type Flood, type FloodName } from './floods.ts'

/** How long a flood runs before the latencies are measured. */
const SETTLE_MS = 1_000
/** How long the database is unavailable: shorter than the hold window. */
const OUTAGE_MS = 6_000
/** Each has 900 kB and is slow to search. Together they exceed the memory that readers may leave unread. */
const LARGE_RECORDS = 200

/** The result of a flood. */
export interface Result extends Witnessed {
  /** Peak memory of the server, in bytes. */
  peak: number
  /** The signal or exit code of the server, if it ended. */
  end: string | undefined
  /** Requests that the flood sent during the measurement, and those that were still waiting for a response at its end. */
  attacks: number
}

/** Measures the memory of Sluice under each flood, and the latencies of a client with another key. */
export async function measureFloods({ database, options }: Run): Promise<Outcome> {
  const rows: TableRow[] = []
  const faults: string[] = []
  for (const name of options.floods ?? (Object.keys(FLOODS) as FloodName[])) {
    const result = await apply(name, database, options.floodSeconds)
    rows.push(toRow(`${name} POST`, result, result.post, options.floodSeconds))
    rows.push(toRow(`${name} batch`, result, result.batch, options.floodSeconds))
    rows.push(toRow(`${name} GET`, result, result.get, options.floodSeconds))
    faults.push(...findFaults(result, FLOODS[name].attack.connections).map((fault) => `${name}: ${fault}`))
  }
  return { rows, faults }
}

/** Starts a new server for each flood, so that the memory of one does not count for the next. */
async function apply(name: FloodName, database: BenchDatabase, seconds: number): Promise<Result> {
  const { reads, outage }: Flood = FLOODS[name]
  await database.empty()
  if (reads) await storeLargeRecords(database.ownerUrl)
  const network = outage ? await openNetwork(addressOf(database.apiUrl)) : undefined
  const server = await startServer(
    'ours',
    network === undefined ? database : { ...database, apiUrl: through(network, database.apiUrl) },
  )
  const [attacker, bystander] = await Promise.all([start('floods/attacker.ts'), start('floods/bystander.ts')])
  try {
    await storeKnown(server, database.otherKey)
    const { peak, result } = await peakWhile(server.child, () =>
      witness({ name, database, seconds, server, network, attacker, bystander }),
    )
    const end = server.child.end()
    console.error(
      `${name}: at most ${inMiB(peak)} MiB${end === undefined ? '' : `, ended (${end})`}; ${inWords(result.tally)}`,
    )
    return { ...result, peak, end }
  } finally {
    // The clients first: without them, the server has no requests to wait for.
    await Promise.all([attacker.stop(), bystander.stop()])
    await server.child.stop()
    network?.close()
  }
}

interface Scene {
  name: FloodName
  database: BenchDatabase
  seconds: number
  server: Server
  network: Network | undefined
  attacker: Child
  bystander: Child
}

async function witness(scene: Scene): Promise<Witnessed & { attacks: number; tally: Tally }> {
  const { name, database, seconds, server, network, attacker, bystander } = scene
  const { port } = server
  network?.drop()
  await attacker.ask({ flood: name, port, key: database.key } satisfies AttackerOrder)
  await sleep(network === undefined ? SETTLE_MS : OUTAGE_MS)
  network?.heal()
  const before = await attacker.ask<Tally>({})
  const witnessed = await bystander.ask<Witnessed>({ port, key: database.otherKey, seconds } satisfies BystanderOrder)
  const tally = await attacker.ask<Tally>({})
  return { ...witnessed, attacks: tally.requests - before.requests + tally.waiting, tally }
}

async function storeKnown({ port }: Server, key: string): Promise<void> {
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
  const body = JSON.stringify(KNOWN)
  const { status } = await fetch(`http://127.0.0.1:${port}/v1/records`, { method: 'POST', headers, body })
  if (status !== 201) throw new Error(`floods: the server responded with ${status} before the flood`)
}

async function storeLargeRecords(url: string): Promise<void> {
  await withConnection(url, async (db) => {
    await sql`
      INSERT INTO sluice.records (epoch, n, source, id, type, data)
      SELECT sluice.current_epoch(), n, 'large', n, 'large', data
      FROM (SELECT json_agg(i) AS data FROM generate_series(1, 120000) AS i) AS one, generate_series(1, ${LARGE_RECORDS}) AS n
    `.execute(db)
  })
}

function toRow(
  name: string,
  { peak, attacks }: Result,
  { requests, failures, p50_ms, p99_ms, worst_ms }: Latencies,
  seconds: number,
): TableRow {
  return {
    name,
    rate: Math.round((requests - failures) / seconds),
    ...(p50_ms === undefined ? {} : { p50_ms }),
    ...(p99_ms === undefined ? {} : { p99_ms }),
    ...(worst_ms === undefined ? {} : { worst_ms }),
    failed: failures,
    attacks,
    rss_mib: inMiB(peak),
    ratios: {},
  }
}

function inWords({ connections, requests, waiting, ends }: Tally): string {
  const parts = [
    `${connections} connections`,
    `${requests} requests`,
    `${waiting} waiting`,
    ...Object.entries(ends).map(([end, count]) => `${count} × ${end}`),
  ]
  return `the flood: ${parts.join(', ')}`
}

const addressOf = (url: string) => ({ host: new URL(url).hostname, port: Number(new URL(url).port || 5432) })
const through = ({ port }: Network, url: string) =>
  Object.assign(new URL(url), { port: String(port), hostname: '127.0.0.1' }).href

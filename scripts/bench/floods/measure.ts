import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import { withConnection } from '../../../src/commands/database.ts'
import { type Network, openNetwork } from '../../durability/proxy.ts'
import type { BenchDatabase } from '../database.ts'
import { peakWhile } from '../memory/rss.ts'
import { type Child, start } from '../processes.ts'
import { type Server, startServer } from '../servers/start.ts'
import type { Outcome, Row, Run } from '../table.ts'
import type { Order as AttackerOrder } from './attacker.ts'
import { type Order as BystanderOrder, KNOWN, type Latencies, type Witnessed } from './bystander.ts'
import { FLOODS, type Flood, type FloodName } from './floods.ts'

/** The bar: the most memory of our server, and what another key may notice. */
const LIMIT_MIB = 512
const LIMIT_P99_MS = 1000
/** Of the other key's requests; more, and 99 % of them were not answered within any time. */
const LIMIT_FAILED = 0.01

/** Until a flood is under way. */
const SETTLE_MS = 1_000
/** How long the database is away; less than what a request waits for it. */
const AWAY_MS = 6_000
/** 900 kB each, which are slow to search; together more than what any reader may leave unread. */
const LARGE_RECORDS = 200

interface Result extends Witnessed {
  peak: number
  /** How the server ended, if it did. */
  end: string | undefined
}

/** The memory of our server under each flood, and what a client with another key notices meanwhile. */
export async function measureFloods({ database, options }: Run): Promise<Outcome> {
  const rows: Row[] = []
  const faults: string[] = []
  for (const name of options.floods ?? (Object.keys(FLOODS) as FloodName[])) {
    const result = await inflict(name, database, options.floodSeconds)
    rows.push(toRow(`${name} POST`, result, result.post, options.floodSeconds))
    rows.push(toRow(`${name} GET`, result, result.get, options.floodSeconds))
    faults.push(...findFaults(name, result))
  }
  return { rows, faults }
}

/** A server of its own for each, so that what one leaves behind does not count for the next. */
async function inflict(name: FloodName, database: BenchDatabase, seconds: number): Promise<Result> {
  const { reads, away }: Flood = FLOODS[name]
  await database.empty()
  if (reads) await storeLargeRecords(database.ownerUrl)
  const network = away ? await openNetwork(addressOf(database.apiUrl)) : undefined
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
    const answers = await attacker.ask<Record<string, number>>({})
    const end = server.child.end()
    console.error(
      `${name}: at most ${inMiB(peak)} MiB${end === undefined ? '' : `, ended by ${end}`}; the flood got ${inWords(answers)}`,
    )
    return { ...result, peak, end }
  } finally {
    // Without its clients the server has nothing to wait for.
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

async function witness({ name, database, seconds, server, network, attacker, bystander }: Scene): Promise<Witnessed> {
  const { port } = server
  network?.drop()
  await attacker.ask({ flood: name, port, key: database.key } satisfies AttackerOrder)
  await sleep(network === undefined ? SETTLE_MS : AWAY_MS)
  network?.heal()
  return bystander.ask<Witnessed>({ port, key: database.otherKey, seconds } satisfies BystanderOrder)
}

async function storeKnown({ port }: Server, key: string): Promise<void> {
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
  const body = JSON.stringify(KNOWN)
  const { status } = await fetch(`http://127.0.0.1:${port}/v1/records`, { method: 'POST', headers, body })
  if (status !== 201) throw new Error(`floods: the server answered ${status} before there was a flood`)
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
  { peak }: Result,
  { requests, failures, p50_ms, p99_ms, worst_ms }: Latencies,
  seconds: number,
): Row {
  return {
    name,
    rate: Math.round((requests - failures) / seconds),
    ...(p50_ms === undefined ? {} : { p50_ms }),
    ...(p99_ms === undefined ? {} : { p99_ms }),
    ...(worst_ms === undefined ? {} : { worst_ms }),
    failed: failures,
    rss_mib: inMiB(peak),
    ratios: {},
  }
}

function findFaults(name: FloodName, { peak, end, post, get }: Result): string[] {
  const noticed = Object.entries({ POST: post, GET: get }).flatMap(
    ([method, { requests, failures, failure, p99_ms = Number.POSITIVE_INFINITY }]) => [
      ...(failures > requests * LIMIT_FAILED
        ? [`${failures} of ${requests} ${method}s of another key failed (${failure})`]
        : []),
      ...(failures < requests && p99_ms >= LIMIT_P99_MS
        ? [`p99 of ${method}s of another key was ${Math.round(p99_ms)} ms`]
        : []),
    ],
  )
  return [
    ...(end === undefined
      ? []
      : [`the server ended by ${end}${end === 'SIGABRT' ? ', as V8 does when its heap is full' : ''}`]),
    ...(inMiB(peak) >= LIMIT_MIB ? [`the server had ${inMiB(peak)} MiB`] : []),
    ...noticed,
  ].map((fault) => `${name}: ${fault}`)
}

const inWords = (answers: Record<string, number>) =>
  Object.entries(answers)
    .map(([what, count]) => `${count} × ${what}`)
    .join(', ') || 'no answer'

const addressOf = (url: string) => ({ host: new URL(url).hostname, port: Number(new URL(url).port || 5432) })
const through = ({ port }: Network, url: string) =>
  Object.assign(new URL(url), { port: String(port), hostname: '127.0.0.1' }).href
const inMiB = (bytes: number) => Math.ceil(bytes / 2 ** 20)

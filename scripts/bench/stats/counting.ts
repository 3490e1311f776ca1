import { setTimeout as sleep } from 'node:timers/promises'
import type { StatsDocument } from '../../../src/schemas/stats.ts'
import type { Sent, Task } from '../lines/sender.ts'
import { type Child, start } from '../processes.ts'
import type { Measurement, Order } from '../requests/measure.ts'
import { type Server, startServer } from '../servers/start.ts'
import { median, medianRatio, type Outcome, type Run, rounded, type TableRow } from '../table.ts'

const CONNECTIONS = 64
const RECORDS = 300_000

/** Between two looks at the lag. */
const LOOK_MS = 250
/** A server that was suspended sheds load at first: its event loop seems to be late. */
const CALM_MS = 2_000

const WAYS = ['uncounted', 'counted'] as const
type Way = (typeof WAYS)[number]

interface Rates {
  single: number[]
  lines: number[]
  p99_ms: number[]
  /** The longest lag during the lines, in seconds. */
  lag: number[]
}

/**
 * Measures single records and lines with the rollups, and without them, and how far these are behind. The server that is not measured
 * is suspended: otherwise the one with rollups would count the records of the other one.
 */
export async function compareCounting({ database, options }: Run): Promise<Outcome> {
  await database.empty()
  const records = Math.round(options.records ?? RECORDS)
  const load = await start('requests/load.ts')
  const sender = await start('lines/sender.ts')
  await sender.ask<null>({ kind: 'prepare', records } satisfies Task)
  const servers: Record<Way, Server> = {
    uncounted: await startServer('ours', database, undefined, { ROLLUP_MAX_SERIES: '0' }),
    counted: await startServer('ours', database, options.profile),
  }
  const measured: Record<Way, Rates> = {
    uncounted: { single: [], lines: [], p99_ms: [], lag: [] },
    counted: { single: [], lines: [], p99_ms: [], lag: [] },
  }
  const faults: string[] = []
  suspend(servers.uncounted.child)
  suspend(servers.counted.child)

  for (let round = 0; round <= options.rounds; round++) {
    for (const way of round % 2 === 0 ? WAYS : WAYS.toReversed()) {
      const server = servers[way]
      await database.empty()
      process.kill(server.child.pid, 'SIGCONT')
      await untilReady(server.port, database.key, way)
      const order: Order = {
        port: server.port,
        key: database.key,
        connections: CONNECTIONS,
        size: 1,
        seconds: options.seconds,
      }
      const single = await load.ask<Measurement>(order)
      if (single.failures > 0) faults.push(`stats ${way}: ${single.failures} requests failed (${single.failure})`)
      await database.empty()
      const lag = way === 'counted' ? watchLag(server.port, database.key) : undefined
      const { seconds } = await sender.ask<Sent>({ kind: 'post', port: server.port, key: database.key } satisfies Task)
      const longest = await lag?.end()
      suspend(server.child)

      const name = round === 0 ? 'warm-up' : `round ${round}`
      const behind = longest === undefined ? '' : `, at most ${longest.toFixed(1)} s behind`
      console.error(
        `${name} stats ${way}: ${Math.round(single.rate)} single records/s, ${Math.round(records / seconds)} lines/s${behind}`,
      )
      if (round === 0) continue
      measured[way].single.push(single.rate)
      measured[way].p99_ms.push(single.p99_ms)
      measured[way].lines.push(records / seconds)
      if (longest !== undefined) measured[way].lag.push(longest)
    }
  }
  for (const { child } of Object.values(servers)) process.kill(child.pid, 'SIGCONT')
  await Promise.all([load, sender, servers.uncounted.child, servers.counted.child].map((child) => child.stop()))
  return { rows: WAYS.flatMap((way) => toRows(measured, way)), faults }
}

const suspend = ({ pid }: Child) => process.kill(pid, 'SIGSTOP')

/** undefined: it sheds load. */
async function readLag(port: number, key: string): Promise<number | undefined> {
  const response = await fetch(`http://127.0.0.1:${port}/v1/stats?bucket=day`, {
    headers: { authorization: `Bearer ${key}` },
  })
  if (response.status === 503) return undefined
  if (!response.ok) throw new Error(`stats: ${response.status} ${await response.text()}`)
  return ((await response.json()) as StatsDocument).lagSeconds
}

/** Until the server has recovered from its suspension, during which it took no requests, and has nothing left to count. */
async function untilReady(port: number, key: string, way: Way): Promise<void> {
  for (let calmSince = performance.now(); performance.now() - calmSince < CALM_MS; await sleep(LOOK_MS)) {
    const lag = await readLag(port, key)
    if (lag === undefined || (lag > 0 && way === 'counted')) calmSince = performance.now()
  }
}

/** Looks at the lag now and then, until everything is counted. */
function watchLag(port: number, key: string): { end(): Promise<number> } {
  let longest = 0
  let isOver = false
  const watching = (async () => {
    for (let lag = 0; !isOver || lag > 0; await sleep(LOOK_MS)) {
      lag = (await readLag(port, key)) ?? lag
      longest = Math.max(longest, lag)
    }
  })()
  return {
    async end() {
      isOver = true
      await watching
      return longest
    },
  }
}

function toRows(measured: Record<Way, Rates>, way: Way): TableRow[] {
  const { single, lines, p99_ms, lag } = measured[way]
  return [
    {
      name: `stats single ${way}`,
      rate: Math.round(median(single)),
      p99_ms: rounded(median(p99_ms)),
      ratios: { uncounted: medianRatio(single, measured.uncounted.single) },
    },
    {
      name: `stats lines ${way}`,
      rate: Math.round(median(lines)),
      ...(lag.length > 0 && { worst_ms: Math.round(1000 * Math.max(...lag)) }),
      ratios: { uncounted: medianRatio(lines, measured.uncounted.lines) },
    },
  ]
}

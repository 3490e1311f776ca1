import type { Measurement, Order } from '../requests/measure.ts'
import { median, medianRatio, type Outcome, type Run, rounded } from '../table.ts'
import type { Arrivals, Task } from './followers.ts'
import { countIdleQueries, waiting } from './idle.ts'
import type { Sent } from './sender.ts'
import { startAll } from './start-all.ts'

const CONNECTIONS = 64

const WAYS = ['no follower', 'one waits', 'all wait'] as const
type Way = (typeof WAYS)[number]

/** Measures ingestion, and the queries of an idle server, while followers wait for records that never come. */
export async function compareWithWaiting(run: Run): Promise<Outcome> {
  const { database, options } = run
  const counts: Record<Way, number> = { 'no follower': 0, 'one waits': 1, 'all wait': Math.round(options.followers) }
  const measured: Record<Way, Measurement[]> = { 'no follower': [], 'one waits': [], 'all wait': [] }
  const faults: string[] = []
  const { server, sender, followers, stop } = await startAll(run)
  const { port } = server
  const { key } = database
  const order: Order = { port, key, connections: CONNECTIONS, size: 1, seconds: options.seconds }

  for (let round = 0; round <= options.rounds; round++) {
    for (const way of round % 2 === 0 ? WAYS : WAYS.toReversed()) {
      await followers.ask<null>({ kind: 'open', port, key, followers: waiting(counts[way]) } satisfies Task)
      const sent = await sender.ask<Sent>(order)
      await followers.ask<Arrivals>({ kind: 'close', records: 0 } satisfies Task)

      const name = round === 0 ? 'warm-up' : `round ${round}`
      console.error(`${name} feed ${way}: ${Math.round(sent.rate)} records/s, p99 ${sent.p99_ms.toFixed(1)} ms`)
      if (sent.failures > 0) faults.push(`feed ${way}: ${sent.failures} requests failed (${sent.failure})`)
      if (round > 0) measured[way].push(sent)
    }
  }
  await stop()
  const queries = await countIdleQueries(
    run,
    WAYS.map((way) => counts[way]),
  )

  const rates = (way: Way) => measured[way].map(({ rate }) => rate)
  const rows = WAYS.map((way, index) => ({
    name: `feed ${way}`,
    rate: Math.round(median(rates(way))),
    p50_ms: rounded(median(measured[way].map(({ p50_ms }) => p50_ms))),
    p99_ms: rounded(median(measured[way].map(({ p99_ms }) => p99_ms))),
    queries: rounded(queries[index] as number),
    ratios: { 'no follower': medianRatio(rates(way), rates('no follower')) },
  }))
  return { rows, faults }
}

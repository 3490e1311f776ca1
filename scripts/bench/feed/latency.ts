import type { Order } from '../requests/measure.ts'
import { median, type Outcome, type Run, rounded } from '../table.ts'
import type { Arrivals, Task } from './followers.ts'
import type { Sent } from './sender.ts'
import { startAll } from './start-all.ts'

const CONNECTIONS = 64
const FOLLOWERS = 10

interface Latencies {
  /** In milliseconds, sorted. From the response that acknowledged a record to its arrival at a follower; below 0 if that was earlier. */
  fromCommit: Float64Array
  fromSending: Float64Array
  /** Records that a follower did not get, or got more than once. */
  wrong: number
}

/**
 * Measures how long a record takes to its followers while ingestion runs at half its maximum. Each round first measures the maximum,
 * without followers.
 */
export async function measureLatency(run: Run): Promise<Outcome> {
  const { database, options } = run
  const { seconds, rounds } = options
  const measured: { rate: number; fromCommit: Percentiles; fromSending: Percentiles }[] = []
  const faults: string[] = []
  const { server, sender, followers, stop } = await startAll(run)
  const order: Order = { port: server.port, key: database.key, connections: CONNECTIONS, size: 1, seconds }
  for (let round = 0; round <= rounds; round++) {
    const name = round === 0 ? 'warm-up' : `round ${round}`
    const { rate: most } = await sender.ask<Sent>(order)
    const open = Array.from({ length: FOLLOWERS }, () => ({ query: '' }))
    const { port, key } = order
    await followers.ask<null>({ kind: 'open', port, key, followers: open, timed: true } satisfies Task)
    const sent = await sender.ask<Sent>({ ...order, requestsPerSecond: most / 2 })
    const arrivals = await followers.ask<Arrivals>({ kind: 'close', records: sent.acknowledged } satisfies Task)

    const { fromCommit, fromSending, wrong } = compare(sent, arrivals)
    if (wrong > 0) {
      const what = wrong === 1 ? '1 record, or got it' : `${wrong} records, or got them`
      throw new Error(`feed latency: followers missed ${what} twice`)
    }
    const one = { rate: sent.rate, fromCommit: percentilesOf(fromCommit), fromSending: percentilesOf(fromSending) }
    console.error(
      `${name} feed latency: ${Math.round(sent.rate)} of at most ${Math.round(most)} records/s, ` +
        `from commit ${inWords(one.fromCommit)}, from sending ${inWords(one.fromSending)}`,
    )
    if (round > 0) measured.push(one)
    if (sent.failures > 0) faults.push(`feed latency: ${sent.failures} requests failed (${sent.failure})`)
  }
  await stop()

  const toRow = (name: string, of: 'fromCommit' | 'fromSending') => ({
    name: `feed ${name}`,
    rate: Math.round(median(measured.map(({ rate }) => rate))),
    p50_ms: rounded(median(measured.map((one) => one[of].p50_ms))),
    p99_ms: rounded(median(measured.map((one) => one[of].p99_ms))),
    ratios: {},
  })
  return { rows: [toRow('commit to reader', 'fromCommit'), toRow('sending to reader', 'fromSending')], faults }
}

function compare(sent: Sent, arrivals: Arrivals): Latencies {
  const index = new Map(Array.from(sent.numbers, (number, at) => [number, at] as const))
  const times = new Uint32Array(sent.numbers.length)
  const fromCommit = new Float64Array(arrivals.at.length)
  const fromSending = new Float64Array(arrivals.at.length)
  for (const [arrival, number] of arrivals.numbers.entries()) {
    const record = index.get(number)
    if (record === undefined) continue
    const at = arrivals.at[arrival] as number
    fromCommit[arrival] = at - (sent.respondedAt[record] as number)
    fromSending[arrival] = at - (sent.sentAt[record] as number)
    times[record] = (times[record] as number) + 1
  }
  const wrong = times.filter((count) => count !== FOLLOWERS).length
  return { fromCommit: fromCommit.sort(), fromSending: fromSending.sort(), wrong }
}

interface Percentiles {
  p50_ms: number
  p99_ms: number
}

function percentilesOf(sorted: Float64Array): Percentiles {
  const percentile = (p: number) => sorted[Math.floor((sorted.length - 1) * p)] ?? 0
  return { p50_ms: percentile(0.5), p99_ms: percentile(0.99) }
}

const inWords = ({ p50_ms, p99_ms }: Percentiles) => `p50 ${p50_ms.toFixed(1)} ms, p99 ${p99_ms.toFixed(1)} ms`

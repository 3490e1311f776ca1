import type { Browser } from 'playwright-core'
import { start } from '../processes.ts'
import type { Measurement, Order } from '../requests/measure.ts'
import { startServer } from '../servers/start.ts'
import { median, medianRatio, type Outcome, type Run, rounded, type TableRow } from '../table.ts'
import { type PageRequest, recordRequests } from './recording.ts'
import type { Seen, Task } from './viewers.ts'

const CONNECTIONS = 64
const VIEWERS = 10
/** A multiple of the intervals at which an open page reads. What it reads less often is repeated more often than in reality. */
const PERIOD_MS = 15_000
/** The recording ends between two reads. */
const RECORDED_MS = 14_000

const PAGES = { overview: '#/overview', live: '#/live' }
type Page = keyof typeof PAGES

/**
 * Measures ingestion while ten consoles are open, and while none is, right before or after that. Ten browsers would take the processors that
 * the server needs. So the requests of one are recorded, and sent for ten.
 */
export async function comparePages({ database, options }: Run, browser: Browser): Promise<Outcome> {
  const [server, load, viewers] = await Promise.all([
    startServer('ours', database, options.profile),
    start('requests/load.ts'),
    start('console/viewers.ts'),
  ])
  const { port } = server
  const { key } = database
  const order: Order = { port, key, connections: CONNECTIONS, size: 1, seconds: options.seconds }
  const faults: string[] = []

  async function ingest(name: string, requests: PageRequest[]): Promise<Measurement> {
    await database.empty()
    const pages = { requests, viewers: VIEWERS, periodMs: PERIOD_MS }
    await viewers.ask<null>({ kind: 'open', port, key, ...pages } satisfies Task)
    const sent = await load.ask<Measurement>(order)
    const seen = await viewers.ask<Seen>({ kind: 'close' } satisfies Task)
    const mib = (seen.bytes / 2 ** 20).toFixed(1)
    console.error(
      `${name}: ${Math.round(sent.rate)} records/s, p99 ${sent.p99_ms.toFixed(1)} ms, ${seen.responses} responses, ${mib} MiB`,
    )
    if (sent.failures > 0) faults.push(`${name}: ${sent.failures} requests failed (${sent.failure})`)
    if (seen.failures.length > 0)
      faults.push(`${name}: ${seen.failures.length} requests of the page failed (${seen.failures[0]})`)
    return sent
  }

  const rows: TableRow[] = []
  for (const page of Object.keys(PAGES) as Page[]) {
    const requests = await recordRequests(browser, { port, key, hash: PAGES[page], ms: RECORDED_MS })
    const measured = { open: [] as Measurement[], closed: [] as Measurement[] }
    for (let round = 0; round <= options.rounds; round++) {
      const ways = ['open', 'closed'] as const
      for (const way of round % 2 === 0 ? ways : ways.toReversed()) {
        const name = `${round === 0 ? 'warm-up' : `round ${round}`} console ${page} ${way}`
        const sent = await ingest(name, way === 'open' ? requests : [])
        if (round > 0) measured[way].push(sent)
      }
    }
    const rates = (way: 'open' | 'closed') => measured[way].map(({ rate }) => rate)
    for (const way of ['closed', 'open'] as const)
      rows.push({
        name: `console ${page} ${way}`,
        rate: Math.round(median(rates(way))),
        p50_ms: rounded(median(measured[way].map(({ p50_ms }) => p50_ms))),
        p99_ms: rounded(median(measured[way].map(({ p99_ms }) => p99_ms))),
        ratios: { closed: medianRatio(rates(way), rates('closed')) },
      })
  }
  await Promise.all([load, viewers, server.child].map((child) => child.stop()))
  return { rows, faults }
}

import type { Registry } from 'prom-client'
import type { Counts } from '../ingest/results.ts'
import { type Observed, readCounter, readHistogram } from './read.ts'

/** In seconds. From a commit on a fast disk to one that waited for the database, for as long as OUTAGE_HOLD_SECONDS. */
export const BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30]

/** What routes are asked with; Node's parser lets some thirty more through. */
const METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])

/** Tells of a request: its route's template, if it had one, its status, and how long it took. */
export type ObserveRequest = (method: string, route: string | undefined, status: number, seconds: number) => void

/**
 * What HTTP asks of us. What that costs a request: `npm run bench -- --only observability`. Kept here, since a Histogram of
 * prom-client checks and joins the labels anew for each, which shows there.
 */
export function measureRequests(registry: Registry): ObserveRequest {
  const observed = new Map<string, Observed>()
  readHistogram(registry, {
    name: 'sluice_http_request_duration_seconds',
    help: 'From the head of a request to the end of its answer, by the template of its route.',
    buckets: BUCKETS,
    read: () => observed.values(),
  })

  function open(method: string, route: string, status: number): Observed {
    const labels = { method, route, status: String(status) }
    const one = { labels, counts: new Array(BUCKETS.length + 1).fill(0), sum: 0 }
    observed.set(`${method} ${route} ${status}`, one)
    return one
  }

  return (asked, route = 'none', status, seconds) => {
    const method = METHODS.has(asked) ? asked : 'other'
    const one = observed.get(`${method} ${route} ${status}`) ?? open(method, route, status)
    let bucket = 0
    while (bucket < BUCKETS.length && seconds > (BUCKETS[bucket] as number)) bucket++
    one.counts[bucket] = (one.counts[bucket] as number) + 1
    one.sum += seconds
  }
}

/** What became of records. */
export function tellRecords(registry: Registry, counts: Readonly<Counts>): void {
  readCounter(registry, {
    name: 'sluice_records_total',
    help: 'Records by what became of them, of batches and of lines.',
    labelNames: ['outcome'],
    read: () => Object.entries(counts).map(([outcome, count]) => [{ outcome }, count] as const),
  })
}

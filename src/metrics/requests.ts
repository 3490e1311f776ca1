import { Histogram, type Registry } from 'prom-client'
import type { Counts } from '../ingest/results.ts'
import { readCounter } from './read.ts'

/** In seconds. From a commit on a fast disk to one that waited for the database, for as long as OUTAGE_HOLD_SECONDS. */
const BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30]

/** What routes are asked with; Node's parser lets some thirty more through. */
const METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])

/** Tells of a request: its route's template, if it had one, its status, and how long it took. */
export type ObserveRequest = (method: string, route: string | undefined, status: number, seconds: number) => void

/** What HTTP asks of us. What that costs a request: `npm run bench -- --only observability`. */
export function measureRequests(registry: Registry): ObserveRequest {
  const durations = new Histogram({
    name: 'sluice_http_request_duration_seconds',
    help: 'From the head of a request to the end of its answer, by the template of its route.',
    labelNames: ['method', 'route', 'status'],
    buckets: BUCKETS,
    registers: [registry],
  })
  return (method, route = 'none', status, seconds) =>
    durations.observe({ method: METHODS.has(method) ? method : 'other', route, status }, seconds)
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

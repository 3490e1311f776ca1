import type { Registry } from 'prom-client'
import type { Counts } from '../../schemas/results.ts'
import { type Observed, registerCounter, registerHistogram } from './register.ts'

/** In seconds: from a commit on a fast disk to a request that waited during an outage, up to OUTAGE_HOLD_SECONDS. */
export const BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30]

/** Methods that clients commonly send. Node's parser accepts about thirty more. */
const METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])

/** Records a request: its method, the template of its route if it has one, its status and its duration. */
type ObserveRequest = (method: string, route: string | undefined, status: number, seconds: number) => void

/**
 * The duration of requests. The counts are kept here, because a Histogram of prom-client checks and joins the labels anew for
 * each request: `npm run bench -- --only observability` shows what that costs.
 */
export function measureRequests(registry: Registry): ObserveRequest {
  const observed = new Map<string, Observed>()
  registerHistogram(registry, {
    name: 'sluice_http_request_duration_seconds',
    help: 'From the headers of a request to the end of its response, by the template of its route.',
    buckets: BUCKETS,
    read: () => observed.values(),
  })

  function open(method: string, route: string, status: number): Observed {
    const labels = { method, route, status: String(status) }
    const one = { labels, counts: new Array(BUCKETS.length + 1).fill(0), sum: 0 }
    observed.set(`${method} ${route} ${status}`, one)
    return one
  }

  return (requestMethod, route = 'none', status, seconds) => {
    const method = METHODS.has(requestMethod) ? requestMethod : 'other'
    const one = observed.get(`${method} ${route} ${status}`) ?? open(method, route, status)
    let bucket = 0
    while (bucket < BUCKETS.length && seconds > (BUCKETS[bucket] as number)) bucket++
    one.counts[bucket] = (one.counts[bucket] as number) + 1
    one.sum += seconds
  }
}

/** Records by result. */
export function registerRecordMetrics(registry: Registry, counts: Readonly<Counts>): void {
  registerCounter(registry, {
    name: 'sluice_records_total',
    help: 'Records by result, of batches and of lines.',
    labelNames: ['outcome'],
    read: () => Object.entries(counts).map(([outcome, count]) => [{ outcome }, count] as const),
  })
}

import { Histogram, Registry } from 'prom-client'
import t from 'tap'
import { BUCKETS, measureRequests } from '../../../src/plugins/metrics/requests.ts'

t.test('measureRequests has the same output as a Histogram of prom-client', async (t) => {
  const [ours, theirs] = [new Registry(), new Registry()]
  const observe = measureRequests(ours)
  const histogram = new Histogram({
    name: 'sluice_http_request_duration_seconds',
    help: 'From the headers of a request to the end of its response, by the template of its route.',
    labelNames: ['method', 'route', 'status'],
    buckets: BUCKETS,
    registers: [theirs],
  })
  // Durations at, below and above the bound of each bucket.
  const times = BUCKETS.flatMap((bound) => [bound, bound * 0.9, bound * 1.1])
  for (const [method, route, status] of [
    ['POST', '/v1/records', 201],
    ['POST', '/v1/records', 503],
    ['GET', '/v1/records/:source/:id', 200],
  ] as const) {
    for (const seconds of times) {
      observe(method, route, status, seconds)
      histogram.observe({ method, route, status }, seconds)
    }
  }
  observe('BREW', undefined, 404, 0)
  histogram.observe({ method: 'other', route: 'none', status: 404 }, 0)
  t.equal(await ours.metrics(), await theirs.metrics())
})

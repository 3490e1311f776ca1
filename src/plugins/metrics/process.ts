import { performance } from 'node:perf_hooks'
import { Counter, collectDefaultMetrics, Registry } from 'prom-client'

/** Gauges with names of counters, against Prometheus' rules, and older duplicates of nodejs_active_resources. */
const UNWANTED = [
  'nodejs_active_handles',
  'nodejs_active_handles_total',
  'nodejs_active_requests',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
]

let registry: Registry | undefined

/**
 * Memory, processor, event loop, garbage collection: prom-client's metrics of a Node.js process. They are created once, even if a
 * process builds several servers (tests do): the observers of the event loop and of garbage collection cannot be stopped.
 */
export function processMetrics(): Registry {
  if (registry !== undefined) return registry
  registry = new Registry()
  collectDefaultMetrics({ register: registry })
  for (const name of UNWANTED) registry.removeSingleMetric(name)
  // OpenTelemetry's nodejs.eventloop.time. A ratio would cover the time since the last scrape of any scraper.
  new Counter({
    name: 'nodejs_eventloop_time_seconds_total',
    help: 'Time that the event loop worked (active) or waited (idle).',
    labelNames: ['state'],
    registers: [registry],
    collect() {
      const { active, idle } = performance.eventLoopUtilization()
      this.reset()
      this.inc({ state: 'active' }, active / 1000)
      this.inc({ state: 'idle' }, idle / 1000)
    },
  })
  return registry
}

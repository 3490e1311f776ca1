import { performance } from 'node:perf_hooks'
import { Counter, collectDefaultMetrics, Registry } from 'prom-client'

/** Gauges that are named like counters, against Prometheus' rules, and twins of nodejs_active_resources by old means. */
const UNWANTED = [
  'nodejs_active_handles',
  'nodejs_active_handles_total',
  'nodejs_active_requests',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
]

let registry: Registry | undefined

/**
 * Memory, processor, event loop, garbage collection: what prom-client tells of any process of Node. Made once, however many
 * servers a process builds (in tests, several): what watches the event loop and the collector cannot be stopped.
 */
export function processMetrics(): Registry {
  if (registry !== undefined) return registry
  registry = new Registry()
  collectDefaultMetrics({ register: registry })
  for (const name of UNWANTED) registry.removeSingleMetric(name)
  // OpenTelemetry's nodejs.eventloop.time. A ratio would be one since the last scrape, whoever made that.
  new Counter({
    name: 'nodejs_eventloop_time_seconds_total',
    help: 'How long the event loop worked (active) and waited (idle).',
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

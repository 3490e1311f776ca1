import { Gauge, Registry } from 'prom-client'
import { VERSION } from '../lib/version.ts'
import { processMetrics } from './process.ts'

/**
 * The metrics of one server; those of its process are among them. Whoever owns a thing adds what there is to tell of it,
 * with a function of this folder. Names follow Prometheus' rules (https://prometheus.io/docs/practices/naming): base
 * units, `_total` for what only grows. A label's values are few and ours: never an id, a path or a header of a caller.
 * And none is called `job`, `instance`, `pod` or `namespace`, which Prometheus and its operator give to what they scrape.
 */
export function createRegistry(): Registry {
  const registry = new Registry()
  for (const metric of processMetrics().getMetricsAsArray()) registry.registerMetric(metric as never)
  new Gauge({
    name: 'sluice_build_info',
    help: 'Which version this is, and of Node.js; always 1.',
    labelNames: ['version', 'node'],
    registers: [registry],
  }).set({ version: VERSION, node: process.versions.node }, 1)
  return registry
}

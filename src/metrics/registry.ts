import { Gauge, Registry } from 'prom-client'
import { VERSION } from '../lib/version.ts'
import { processMetrics } from './process.ts'

/**
 * The metrics of one server, with those of its process. The owner of a thing registers its metrics with a function of this
 * folder. Names follow Prometheus' rules (https://prometheus.io/docs/practices/naming): base units, and `_total` for counters.
 * Labels have few values, which we define: never an id, a path or a header of a client. No label is called `job`, `instance`,
 * `pod` or `namespace`, because Prometheus and its operator add these to what they scrape.
 */
export function createRegistry(): Registry {
  const registry = Registry.merge([processMetrics()])
  new Gauge({
    name: 'sluice_build_info',
    help: 'The version of Sluice and of Node.js; always 1.',
    labelNames: ['version', 'node'],
    registers: [registry],
  }).set({ version: VERSION, node: process.versions.node }, 1)
  return registry
}

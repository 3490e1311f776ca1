import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { Registry } from 'prom-client'
import { noCounts } from '../../../src/ingest/results.ts'

/** What the other plugins want of src/plugins/metrics.ts, and nothing that is done for each request. */
export default fp(
  async function noMetrics(app: FastifyInstance) {
    app.decorate('metrics', new Registry())
    app.decorate('recordCounts', noCounts())
    app.decorate('measureRequest', () => {})
  },
  { name: 'metrics' },
)

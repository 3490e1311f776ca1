import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { Registry } from 'prom-client'
import { noCounts } from '../../../src/ingest/results.ts'

/** Decorates the app with what other plugins need from src/plugins/metrics.ts, but does nothing per request. */
export default fp(
  async function noMetrics(app: FastifyInstance) {
    app.decorate('metrics', new Registry())
    app.decorate('recordCounts', noCounts())
    app.decorate('measureRequest', () => {})
  },
  { name: 'metrics' },
)

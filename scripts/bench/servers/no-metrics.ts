import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { Registry } from 'prom-client'
import { RecordTotals } from '../../../src/ingest/record-totals.ts'

/** Decorates the app with what other plugins need from src/plugins/metrics.ts, but does nothing per request. */
export default fp(
  async function noMetrics(app: FastifyInstance) {
    app.decorate('metrics', new Registry())
    app.decorate('recordTotals', new RecordTotals())
    app.decorate('measureRequest', () => {})
  },
  { name: 'metrics' },
)

import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { selectJobs } from '../data/jobs.ts'
import { registerJobMetrics } from '../metrics/jobs.ts'

/** Metrics of the last runs of the jobs that run beside the API. */
export default fp(async (app: FastifyInstance) => registerJobMetrics(app.metrics, () => selectJobs(app.db.read)), {
  name: 'jobs',
  dependencies: ['metrics', 'database'],
})

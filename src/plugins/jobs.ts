import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { selectJobs } from '../data/jobs.ts'
import { tellJobs } from '../metrics/jobs.ts'

/** Metrics of the last runs of the jobs that run beside the API. */
export default fp(async (app: FastifyInstance) => tellJobs(app.metrics, () => selectJobs(app.db.read)), {
  name: 'jobs',
  dependencies: ['metrics', 'database'],
})

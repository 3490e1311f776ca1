import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { selectJobs } from '../data/jobs.ts'
import { tellJobs } from '../metrics/jobs.ts'

/** What the jobs beside the API did last, in its metrics. */
export default fp(async (app: FastifyInstance) => tellJobs(app.metrics, () => selectJobs(app.db.read)), {
  name: 'jobs',
  dependencies: ['metrics', 'database'],
})

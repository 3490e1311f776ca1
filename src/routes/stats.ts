import type { FastifyPluginAsync } from 'fastify'
import type { Key } from '../access/key.ts'
import { json, refusals } from '../schemas/responses.ts'
import { type StatsQuery, StatsQuerySchema, StatsSchema } from '../schemas/stats.ts'
import { readStatsQuery, responseBytes } from '../stats/query.ts'
import { readStats } from '../stats/read-stats.ts'
import { checkKeyAgain, whileReading } from './while-reading.ts'

/** GET /v1/stats. */
const routes: FastifyPluginAsync = async (app) => {
  app.get<{ Querystring: StatsQuery }>('/v1/stats', {
    schema: {
      tags: ['stats'],
      security: [{ key: [] }],
      operationId: 'getStats',
      summary: 'How many records came in, by minute, hour or day',
      description:
        'The counts come from rollups: no record is read, so the response is fast whatever the size of the table. A record is counted in ' +
        'the bucket of its `receivedAt`, usually a second after it is stored. Deleting records does not change the counts.',
      querystring: StatsQuerySchema,
      response: { 200: json(StatsSchema, 'The buckets'), ...refusals() },
    },
    config: { shed: 'read' },
    onRequest: app.requireScope('read'),
    handler: whileReading<{ Querystring: StatsQuery }>(async (request, reply, { signal, reserve }) => {
      const key = request.key as Key
      const filter = readStatsQuery(request.query, key, Date.now())
      const [db, semaphore] = [app.db.read, app.semaphores.stats]
      reserve(responseBytes(filter))
      const reader = { db, primary: { db, semaphore }, semaphore, key, signal }
      const body = await readStats(reader, filter)
      checkKeyAgain(request)
      reserve(body.length)
      return reply.header('cache-control', 'no-store').sendJson(body)
    }),
  })
}

export default routes

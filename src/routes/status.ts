import type { FastifyPluginAsync } from 'fastify'
import { json, refusals } from '../schemas/responses.ts'
import { StatusSchema } from '../schemas/status.ts'
import { requireAllSources } from './all-sources.ts'
import { checkKeyAgain, whileReading } from './while-reading.ts'

/** GET /v1/status. It is not shed: it says that the instance is overloaded. */
const routes: FastifyPluginAsync = async (app) => {
  app.get('/v1/status', {
    schema: {
      tags: ['status'],
      security: [{ key: [] }],
      operationId: 'getStatus',
      summary: 'Whether everything is well, in one document',
      description:
        'It also responds while the database is unavailable, with what this instance knows. `/metrics` has more numbers, and the alerts in the manifests use the same limits.',
      response: { 200: json(StatusSchema, 'The status'), ...refusals() },
    },
    onRequest: [app.requireScope('read'), requireAllSources('see the status')],
    handler: whileReading(async (request, reply, { reserve }) => {
      const body = Buffer.from(JSON.stringify(await app.readStatus()))
      checkKeyAgain(request)
      reserve(body.length)
      return reply.header('cache-control', 'no-store').sendJson(body)
    }),
  })
}

export default routes

import { Type } from '@sinclair/typebox'
import type { FastifyPluginAsync } from 'fastify'
import { HEADERS } from '../schemas/responses.ts'

const text = (description: string) => ({
  description,
  headers: HEADERS,
  content: { 'text/plain': { schema: Type.String() } },
})

/** GET /healthz and /readyz, for probes: no key. */
const routes: FastifyPluginAsync = async (app) => {
  const options = { config: { quiet: true, probe: true } }

  app.get(
    '/healthz',
    {
      ...options,
      schema: {
        operationId: 'isAlive',
        summary: 'The process is alive',
        tags: ['health'],
        response: { 200: text('Alive') },
      },
    },
    (_request, reply) => {
      reply.type('text/plain; charset=utf-8').send('ok\n')
    },
  )

  app.get(
    '/readyz',
    {
      ...options,
      schema: {
        operationId: 'isReady',
        summary: 'This instance is ready for requests',
        tags: ['health'],
        response: { 200: text('Ready'), 503: text('Not ready, and the reason') },
      },
    },
    (_request, reply) => {
      const { ready, reason } = app.readiness
      reply
        .code(ready ? 200 : 503)
        .type('text/plain; charset=utf-8')
        .send(`${reason}\n`)
    },
  )
}

export default routes

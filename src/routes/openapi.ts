import type { FastifyPluginAsync } from 'fastify'

/** GET /openapi.json */
const routes: FastifyPluginAsync = async (app) => {
  app.get('/openapi.json', { schema: { hide: true }, config: { quiet: true } }, (_request, reply) => {
    reply.send(app.swagger())
  })
}

export default routes

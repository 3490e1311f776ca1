import type { FastifyPluginAsync } from 'fastify'

/** GET /healthz and /readyz, for probes: no key. */
const routes: FastifyPluginAsync = async (app) => {
  const options = { config: { quiet: true } }

  app.get(
    '/healthz',
    { ...options, schema: { summary: 'The process is alive', tags: ['health'] } },
    (_request, reply) => {
      reply.type('text/plain; charset=utf-8').send('ok\n')
    },
  )

  app.get(
    '/readyz',
    { ...options, schema: { summary: 'Requests may be sent here', tags: ['health'] } },
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

import type { FastifyPluginAsync } from 'fastify'

/** GET /openapi.json */
const routes: FastifyPluginAsync = async (app) => {
  // Made once: to write it takes a millisecond, and it needs no key.
  let document: Buffer | undefined
  const options = { schema: { hide: true }, config: { quiet: true }, onRequest: app.boundReaders }
  app.get('/openapi.json', options, (_request, reply) => {
    document ??= Buffer.from(JSON.stringify(app.swagger()))
    reply.sendJson(document)
  })
}

export default routes

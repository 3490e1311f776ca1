import type { FastifyPluginAsync } from 'fastify'

/** GET /openapi.json */
const routes: FastifyPluginAsync = async (app) => {
  // Serialized once: it takes a millisecond, and anyone may request it without a key.
  let document: Buffer | undefined
  const options = { schema: { hide: true }, config: { quiet: true }, onRequest: app.limitReaders }
  app.get('/openapi.json', options, (_request, reply) => {
    document ??= Buffer.from(JSON.stringify(app.swagger()))
    reply.sendJson(document)
  })
}

export default routes

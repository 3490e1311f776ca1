import type { FastifyPluginAsync } from 'fastify'

/** GET /openapi.json, and / for people who look around */
const routes: FastifyPluginAsync = async (app) => {
  // Serialized once: it takes a millisecond, and anyone may request it without a key.
  let document: Buffer | undefined
  const options = { schema: { hide: true }, config: { quiet: true }, onRequest: app.limitReaders }
  // Relative, as everything here, so that it works below a path prefix.
  app.get('/', options, (_request, reply) => reply.redirect('docs/'))
  app.get('/openapi.json', options, (_request, reply) => {
    document ??= Buffer.from(JSON.stringify(app.swagger()))
    reply.sendJson(document)
  })
}

export default routes

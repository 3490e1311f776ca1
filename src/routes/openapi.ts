import type { FastifyPluginAsync } from 'fastify'

/** GET /openapi.json, and / for people who look around */
const routes: FastifyPluginAsync = async (app) => {
  // Serialized once: it takes a millisecond, and anyone may request it without a key.
  let document: Buffer | undefined
  const options = { schema: { hide: true }, config: { quiet: true }, onRequest: app.limitReaders }
  // Without a known prefix, it is relative, so that it works behind a proxy that removes one.
  const docs = app.pathPrefix ? `${app.pathPrefix}/docs/` : 'docs/'
  app.get('/', options, (_request, reply) => reply.redirect(docs))
  app.get('/openapi.json', options, (_request, reply) => {
    document ??= Buffer.from(JSON.stringify(app.swagger()))
    reply.sendJson(document)
  })
}

export default routes

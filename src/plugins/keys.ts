import type { FastifyInstance, onRequestHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { readGauge } from '../metrics/read.ts'
import { checkKey, readToken } from '../operate/access.ts'
import { KeyRing } from '../operate/key-ring.ts'
import type { Key, Scope } from '../operate/keys.ts'

/** API keys: `onRequest: app.requireScope('ingest')` on a route refuses a request before its body is read. */
export default fp(
  async function keys(app: FastifyInstance) {
    const ring = new KeyRing(app.db.keys, (err) =>
      app.log.warn({ err }, 'the API keys could not be read; the last copy holds'),
    )
    ring.start()
    readGauge(app.metrics, {
      name: 'sluice_keys_age_seconds',
      help: 'How old the copy of the API keys is, which is renewed every two seconds: for so long a revoked key works.',
      read: () => ring.ageMs / 1000,
    })
    app.addHook('onClose', () => ring.stop())

    app.decorateRequest('key', undefined)
    app.decorate(
      'requireScope',
      (scope: Scope): onRequestHookHandler =>
        (request, _reply, done) => {
          const accept = (key: Key | undefined) => {
            request.key = checkKey(key, scope)
          }
          try {
            const found = ring.find(readToken(request.headers.authorization))
            // Nearly always at hand: no promise for it.
            if (found instanceof Promise) return void found.then(accept).then(() => done(), done)
            accept(found)
            done()
          } catch (error) {
            done(error as Error)
          }
        },
    )
  },
  { name: 'keys', dependencies: ['metrics', 'database'] },
)

declare module 'fastify' {
  interface FastifyInstance {
    requireScope(scope: Scope): onRequestHookHandler
  }
  interface FastifyRequest {
    key: Key | undefined
  }
}

import type { FastifyInstance, onRequestHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { BEARER, checkKey, readToken, unknownKey } from '../access/check-key.ts'
import type { Key, Scope } from '../access/key.ts'
import { KeyRing } from '../access/key-ring.ts'
import { gatherChunks } from '../lib/gather-chunks.ts'
import { pauseReading, resumeReading } from '../lib/pause-reading.ts'
import { registerGauge } from './metrics/register.ts'

/** API keys: `onRequest: app.requireScope('ingest')` on a route refuses a request before its body is read. */
export default fp(
  async function keys(app: FastifyInstance) {
    const ring = new KeyRing(app.db.keys, (err) =>
      app.log.warn({ err }, 'the API keys could not be read; the last copy stays in use'),
    )
    ring.start()
    app.decorate('readFirstKeys', () => ring.readFirst())
    app.decorate('keysAgeSeconds', () => ring.ageMs / 1000)
    registerGauge(app.metrics, {
      name: 'sluice_keys_age_seconds',
      help: 'Age of the copy of the API keys. It is renewed every two seconds; a revoked key works until then.',
      read: () => app.keysAgeSeconds(),
    })
    app.addHook('onClose', () => ring.stop())

    app.decorateRequest('key', undefined)
    app.decorate(
      'requireScope',
      (scope: Scope): onRequestHookHandler =>
        (request, _reply, done) => {
          const { socket } = request.raw
          let token = ''
          const accept = (key: Key | undefined) => {
            if (key === undefined) throw unknownKey(token)
            request.key = checkKey(key, scope)
          }
          try {
            token = readToken(request.headers)
            const found = ring.find(token)
            if (found instanceof Promise) {
              // Otherwise Node.js reads up to 64 KiB of the body ahead, perhaps in chunks of one byte that take 200 bytes each.
              pauseReading(socket)
              gatherChunks(request.raw)
              const resume = (error?: Error) => {
                resumeReading(socket)
                done(error)
              }
              return void found.then(accept).then(() => resume(), resume)
            }
            // Nearly always the key is in memory, and no promise is needed.
            accept(found)
            done()
          } catch (error) {
            done(error as Error)
          }
        },
    )

    app.decorate('knownKey', (authorization) => {
      const token = BEARER.exec(authorization ?? '')?.[1]
      return token === undefined ? undefined : ring.known(token)
    })
    app.decorate('keyNow', ({ key }, scope) => ring.current(key as Key, scope))
    app.decorate('watchKey', ({ key }, scope) => ring.watch(key as Key, scope))
    app.decorateReply('cutOffWithKey', function (scope) {
      const lost = app.watchKey(this.request, scope)
      // Nothing has been sent yet, so the problem can still be the response.
      lost.throwIfAborted()
      // The client has already disconnected: `close` will not fire, and the listener would leak.
      if (this.raw.destroyed) return
      const cutOff = () => {
        const { id, key } = this.request
        app.log.warn(
          { requestId: id, key: key?.id, err: lost.reason },
          'a response was cut off: its key lost the right to read it',
        )
        this.raw.socket?.destroy()
      }
      lost.addEventListener('abort', cutOff)
      this.raw.once('close', () => lost.removeEventListener('abort', cutOff))
    })
  },
  { name: 'keys', dependencies: ['metrics', 'database'] },
)

declare module 'fastify' {
  interface FastifyInstance {
    requireScope(scope: Scope): onRequestHookHandler
    /** Resolves once the keys have been read. */
    readFirstKeys(): Promise<void>
    /** Age of the copy of the keys, which is renewed every two seconds. */
    keysAgeSeconds(): number
    /** The key in this Authorization header, if it is known. It may be revoked or expired. */
    knownKey(authorization: string | undefined): Key | undefined
    /**
     * The current state of a request's key, for work that is done long after the request was accepted.
     * @throws Problem unauthorized, forbidden
     */
    keyNow(request: FastifyRequest, scope: Scope): Key
    /** For a stream: aborted with a Problem within two seconds after its key loses the scope or a source prefix. */
    watchKey(request: FastifyRequest, scope: Scope): AbortSignal
  }
  interface FastifyReply {
    /**
     * Cuts off a response whose status is already sent, as soon as its key loses the scope or a source prefix. Call it before
     * the response begins. @throws Problem if the key has lost it since the request was accepted
     */
    cutOffWithKey(scope: Scope): void
  }
  interface FastifyRequest {
    key: Key | undefined
  }
}

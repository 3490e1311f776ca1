import type { FastifyInstance, onRequestHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { gatherChunks } from '../ingest/gather-chunks.ts'
import { holdReading, releaseReading } from '../lib/reading.ts'
import { readGauge } from '../metrics/read.ts'
import { BEARER, checkKey, readToken } from '../operate/access.ts'
import { KeyRing } from '../operate/key-ring.ts'
import type { Key, Scope } from '../operate/keys.ts'

/** API keys: `onRequest: app.requireScope('ingest')` on a route refuses a request before its body is read. */
export default fp(
  async function keys(app: FastifyInstance) {
    const ring = new KeyRing(app.db.keys, (err) =>
      app.log.warn({ err }, 'the API keys could not be read; the last copy holds'),
    )
    ring.start()
    app.decorate('readFirstKeys', () => ring.readFirst())
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
          const { socket } = request.raw
          const accept = (key: Key | undefined) => {
            request.key = checkKey(key, scope)
          }
          try {
            const found = ring.find(readToken(request.headers.authorization))
            if (found instanceof Promise) {
              // Node.js would read ahead up to 64 KiB of the body, a chunk of which may be a single byte and 200 of memory.
              holdReading(socket)
              gatherChunks(request.raw)
              const goOn = (error?: Error) => {
                releaseReading(socket)
                done(error)
              }
              return void found.then(accept).then(() => goOn(), goOn)
            }
            // Nearly always at hand: no promise for it.
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
    app.decorateReply('cutWithKey', function (scope) {
      const lost = app.watchKey(this.request, scope)
      // Nothing is sent yet: it can be an answer of its own.
      lost.throwIfAborted()
      // The reader has left already: `close` would not fire, and the listener would stay.
      if (this.raw.destroyed) return
      const cut = () => {
        const { id, key } = this.request
        app.log.warn(
          { requestId: id, key: key?.id, err: lost.reason },
          'an export was cut: its key lost the right to it',
        )
        // Reset, not closed: in HTTP/1.0 the end of the connection is the end of the answer, and it would look complete.
        this.raw.socket?.resetAndDestroy()
      }
      lost.addEventListener('abort', cut)
      this.raw.once('close', () => lost.removeEventListener('abort', cut))
    })
  },
  { name: 'keys', dependencies: ['metrics', 'database'] },
)

declare module 'fastify' {
  interface FastifyInstance {
    requireScope(scope: Scope): onRequestHookHandler
    /** Resolves once the keys were read. */
    readFirstKeys(): Promise<void>
    /** The key of this header, if it has one that is known; it may be revoked or expired. */
    knownKey(authorization: string | undefined): Key | undefined
    /**
     * The key of a request as it is now, for what is done long after it was let in.
     * @throws Problem unauthorized, forbidden
     */
    keyNow(request: FastifyRequest, scope: Scope): Key
    /** For a stream: aborted, with a Problem, within two seconds after its key has lost the scope or a source prefix. */
    watchKey(request: FastifyRequest, scope: Scope): AbortSignal
  }
  interface FastifyReply {
    /**
     * Cuts an answer whose status is sent already, as soon as its key loses the scope or a source prefix. Call it before
     * the answer begins. @throws Problem when the key has lost it since the request was let in
     */
    cutWithKey(scope: Scope): void
  }
  interface FastifyRequest {
    key: Key | undefined
  }
}

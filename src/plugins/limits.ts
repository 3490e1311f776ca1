import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance, onRequestHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import type { Key } from '../access/key.ts'
import { type RateLimit, RateLimits } from '../access/rate-limits.ts'
import type { Admit } from '../ingest/line-chunks.ts'

/** Longer waits are split, because a sender that disconnects is noticed only between two of them. */
const MAX_SLEEP_MS = 1_000

/**
 * `onRequest: app.admit`, after the key is known: refuses a request before its body is read, if the storage budget is spent or
 * the key is over its rate.
 */
export default fp(
  async function limits(app: FastifyInstance) {
    const { config } = app
    const rates = new RateLimits(config.KEY_RECORDS_PER_SECOND)
    app.decorateRequest('rateLimit', undefined)
    app.decorate('admit', (request, reply, done) => {
      app.storage.check()
      const limit = rates.of(request.key as Key)
      if (limit !== undefined) {
        limit.admit()
        request.rateLimit = limit
        reply.headers(limit.headers)
      }
      done()
    })

    app.decorate('admitLines', (request, stop) => {
      const { socket } = request.raw
      // The key's rate may have been changed or removed.
      const limit = () => rates.of(app.keyNow(request, 'ingest'))
      const waitMs = () => limit()?.waitMs ?? 0
      // `admit` has already counted one record.
      let alreadyCounted = 1
      return async (rows, bytes) => {
        for (let wait = waitMs(); wait > 0 && !socket.destroyed; wait = waitMs()) {
          await sleep(Math.min(wait, MAX_SLEEP_MS), undefined, { signal: stop }).catch(() => stop.throwIfAborted())
        }
        limit()?.charge(rows - alreadyCounted)
        alreadyCounted = 0
        app.storage.check()
        app.storage.add(bytes)
      }
    })
  },
  { name: 'limits', dependencies: ['keys', 'storage'] },
)

declare module 'fastify' {
  interface FastifyInstance {
    admit: onRequestHookHandler
    /**
     * The same for the lines of an accepted request, chunk by chunk. A stream over the rate is not refused, because it could
     * only be resent from its beginning. It is read at the key's rate. Rejects with the reason of `stop` when that
     * is aborted, and with a Problem when the key may no longer ingest.
     */
    admitLines(request: FastifyRequest, stop: AbortSignal): Admit
  }
  interface FastifyRequest {
    /** The limit of the key; undefined if it has none. */
    rateLimit: RateLimit | undefined
  }
}

import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance, onRequestHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import type { Admit } from '../ingest/line-chunks.ts'
import type { Key } from '../operate/keys.ts'
import { type RateLimit, RateLimits } from '../operate/rate-limits.ts'

/** A sender who leaves meanwhile is noticed then. */
const LONGEST_SLEEP_MS = 1_000

/** `onRequest: app.admit`, after the key is known: refuses records before their body is read, for want of room or rate. */
export default fp(
  async function limits(app: FastifyInstance, { config }: { config: Config }) {
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
      // The key may have got another rate, or lost the one that it had.
      const limit = () => rates.of(app.keyNow(request, 'ingest'))
      const waitMs = () => limit()?.waitMs ?? 0
      let paid = 1
      return async (rows, bytes) => {
        for (let wait = waitMs(); wait > 0 && !socket.destroyed; wait = waitMs()) {
          await sleep(Math.min(wait, LONGEST_SLEEP_MS), undefined, { signal: stop }).catch(() => stop.throwIfAborted())
        }
        limit()?.charge(rows - paid)
        paid = 0
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
     * The same for the lines of a request that was let in, chunk by chunk. A stream that is over the rate is not refused,
     * since it could only be sent again from its beginning: it is read as slowly as its key may send now. Rejects with the
     * reason of `stop` when that is aborted, and with a Problem when the key may no longer ingest.
     */
    admitLines(request: FastifyRequest, stop: AbortSignal): Admit
  }
  interface FastifyRequest {
    /** Of the key; undefined: it has none. */
    rateLimit: RateLimit | undefined
  }
}

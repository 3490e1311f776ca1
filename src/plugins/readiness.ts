import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { pendingMigrations } from '../data/migrate.ts'
import { readGauge } from '../metrics/read.ts'

const LOOK_AGAIN_MS = 500

/**
 * Ready: the database was reached once and has all migrations, the keys were read (before that, only a few requests can
 * wait), and this instance is not draining. A database that goes away later changes nothing: requests wait for it here, and an
 * instance taken out of the Service could not even say 503.
 */
export default fp(
  async function readiness(app: FastifyInstance) {
    const state = { ready: false, reason: 'starting: the database was not reached yet' }
    const stop = new AbortController()
    app.decorate('readiness', state)
    readGauge(app.metrics, {
      name: 'sluice_ready',
      help: 'Does /readyz say 200?',
      read: () => (state.ready ? 1 : 0),
    })
    app.decorate('drain', () => {
      stop.abort()
      Object.assign(state, { ready: false, reason: 'draining' })
    })
    app.addHook('onReady', async () => void watch())
    app.addHook('preClose', async () => stop.abort())

    async function watch(): Promise<void> {
      for (
        let last = '';
        !stop.signal.aborted;
        await sleep(LOOK_AGAIN_MS, undefined, { signal: stop.signal }).catch(() => undefined)
      ) {
        try {
          const pending = await pendingMigrations(app.db.read)
          if (pending.length === 0) await app.readFirstKeys()
          if (stop.signal.aborted) return
          if (pending.length === 0) {
            Object.assign(state, { ready: true, reason: 'ready' })
            app.log.info('ready')
            return
          }
          state.reason = `starting: the database lacks the migrations ${pending.join(', ')}; run "sluice migrate"`
        } catch (err) {
          app.log.debug({ err }, 'not ready')
          state.reason = 'starting: the database was not reached yet'
        }
        if (state.reason !== last) app.log.warn(state.reason)
        last = state.reason
      }
    }
  },
  { name: 'readiness', dependencies: ['metrics', 'database'] },
)

declare module 'fastify' {
  interface FastifyInstance {
    readiness: { readonly ready: boolean; readonly reason: string }
    /** From now on /readyz says 503, for good. */
    drain(): void
  }
}

import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { explain } from '../lib/explain.ts'
import { pendingMigrations } from '../postgres/migrate.ts'
import { registerGauge } from './metrics/register.ts'

const CHECK_MS = 500
/** The log repeats this often why the instance is not ready. */
const REMIND_MS = 60_000

/**
 * Ready means: the database has been reached once and has all migrations, the keys have been read (before that, only a few
 * requests can wait), and this instance is not draining. A later outage of the database changes nothing: requests wait for it
 * here, and an instance that is taken out of the Service could not even send 503.
 */
export default fp(
  async function readiness(app: FastifyInstance) {
    const state = { ready: false, reason: 'starting: the database has not been reached yet' }
    const stop = new AbortController()
    app.decorate('readiness', state)
    registerGauge(app.metrics, {
      name: 'sluice_ready',
      help: '1 if /readyz responds with 200, otherwise 0.',
      read: () => (state.ready ? 1 : 0),
    })
    app.decorate('drain', () => {
      stop.abort()
      Object.assign(state, { ready: false, reason: 'draining' })
    })
    app.addHook('onReady', async () => void watch())
    app.addHook('preClose', async () => stop.abort())

    async function watch(): Promise<void> {
      let [logged, loggedAt] = ['', 0]
      for (; !stop.signal.aborted; await sleep(CHECK_MS, undefined, { signal: stop.signal }).catch(() => undefined)) {
        // The response of /readyz is public, so it does not contain the error.
        let detail = ''
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
          state.reason = 'starting: the database has not been reached yet'
          detail = ` (${explain(err)})`
        }
        const line = state.reason + detail
        if (line === logged && performance.now() - loggedAt < REMIND_MS) continue
        app.log.warn(line)
        logged = line
        loggedAt = performance.now()
      }
    }
  },
  { name: 'readiness', dependencies: ['metrics', 'database'] },
)

declare module 'fastify' {
  interface FastifyInstance {
    readiness: { readonly ready: boolean; readonly reason: string }
    /** From now on, /readyz responds with 503. */
    drain(): void
  }
}

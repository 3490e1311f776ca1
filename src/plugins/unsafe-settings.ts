import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { type SettingName, selectUnsafeSettings, UNSAFE_SETTINGS } from '../data/unsafe-settings.ts'
import { repeat } from '../lib/repeat.ts'
import { registerGauge } from './metrics/register.ts'

/** Until the settings have been read once. */
const RETRY_MS = 500
/** Settings can be changed, and after a failover they are another server's. */
const CHECK_MS = 15_000

/** Reports settings of PostgreSQL that break a guarantee: as errors in the log, and as a metric. */
export default fp(
  async function settings(app: FastifyInstance) {
    let unsafe: SettingName[] | undefined
    app.decorate('unsafeSettings', () => unsafe)
    registerGauge(app.metrics, {
      name: 'sluice_unsafe_settings',
      help: '1 if PostgreSQL runs with a setting that breaks a guarantee, otherwise 0. By setting.',
      labelNames: ['setting'],
      read: () => {
        const known = unsafe
        if (known === undefined) return []
        return Object.keys(UNSAFE_SETTINGS).map((setting) => [
          { setting },
          known.includes(setting as SettingName) ? 1 : 0,
        ])
      },
    })

    async function check(): Promise<number> {
      try {
        const before = unsafe ?? []
        unsafe = await selectUnsafeSettings(app.db.keys)
        for (const setting of unsafe) {
          if (!before.includes(setting)) app.log.error({ setting }, `unsafe setting: ${UNSAFE_SETTINGS[setting]}`)
        }
        for (const setting of before)
          if (!unsafe.includes(setting)) app.log.info({ setting }, 'the setting is safe again')
      } catch (err) {
        app.log.debug({ err }, 'the settings of the database could not be read')
      }
      return unsafe === undefined ? RETRY_MS : CHECK_MS
    }

    let stop = () => {}
    app.addHook('onReady', async () => {
      stop = repeat(check)
    })
    app.addHook('preClose', async () => stop())
  },
  { name: 'settings', dependencies: ['metrics', 'database'] },
)

declare module 'fastify' {
  interface FastifyInstance {
    /** Settings of PostgreSQL that break a guarantee, as of the last look; undefined: there was none. */
    unsafeSettings(): readonly SettingName[] | undefined
  }
}

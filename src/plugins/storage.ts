import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { registerStorageMetrics } from '../metrics/overload.ts'
import { measureStorage, StorageBudget, type StorageState } from '../retention/storage-budget.ts'

/** The storage budget, measured on the primary. */
export default fp(
  async function storage(app: FastifyInstance) {
    const { config } = app
    const budgetBytes = config.STORAGE_BUDGET
    let failing = false
    const instance = new StorageBudget({
      budgetBytes,
      measure: async () => {
        const measurement = await measureStorage(app.db.read, budgetBytes as number)
        failing = false
        return measurement
      },
      inFlight: () => app.ingestMemory.used,
      onChange: (state) => {
        const [level, text] = MESSAGES[state]
        app.log[level]({ usedBytes: instance.usedBytes, budgetBytes }, text)
      },
      onError: (err) => {
        if (!failing)
          app.log.warn({ err }, 'the size of the database could not be measured; the last measurement stays in use')
        failing = true
      },
    })
    app.decorate('storage', instance)
    registerStorageMetrics(app.metrics, instance)
    app.addHook('onReady', async () => instance.start())
    app.addHook('onClose', () => instance.stop())
  },
  { name: 'storage', dependencies: ['metrics', 'database', 'writer'] },
)

const MESSAGES: Record<StorageState, ['info' | 'warn' | 'error', string]> = {
  ok: ['info', 'the storage budget has room again'],
  warning: ['warn', 'the storage budget is nearly spent: at 90 %, ingestion is refused with 507'],
  full: ['error', 'the storage budget is spent: ingestion is refused with 507 until space is free; reading continues'],
}

declare module 'fastify' {
  interface FastifyInstance {
    storage: StorageBudget
  }
}

import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Registry } from 'prom-client'
import { measureStorage, StorageBudget, type StorageState } from '../retention/storage-budget.ts'
import { registerGauge } from './metrics/register.ts'

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
    registerMetrics(app.metrics, instance)
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

/** The storage budget and its use; no metrics without a budget. */
function registerMetrics(registry: Registry, storage: StorageBudget): void {
  const { budgetBytes } = storage
  if (budgetBytes === undefined) return
  registerGauge(registry, {
    name: 'sluice_storage_budget_bytes',
    help: 'STORAGE_BUDGET: disk space that the database may use.',
    read: () => budgetBytes,
  })
  registerGauge(registry, {
    name: 'sluice_storage_used_bytes',
    help: 'Disk space that the database uses, with its write-ahead log, without free space inside the files.',
    read: () => storage.usedBytes ?? [],
  })
  registerGauge(registry, {
    name: 'sluice_storage_full',
    help: '1 if the storage budget is used up and ingestion gets 507, otherwise 0.',
    read: () => (storage.state === 'full' ? 1 : 0),
  })
}

declare module 'fastify' {
  interface FastifyInstance {
    storage: StorageBudget
  }
}

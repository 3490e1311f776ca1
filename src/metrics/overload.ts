import type { Registry } from 'prom-client'
import { registerCounter, registerGauge } from '../lib/metrics.ts'
import type { StorageBudget } from '../retention/storage-budget.ts'

/** The storage budget and its use; no metrics without a budget. */
export function registerStorageMetrics(registry: Registry, storage: StorageBudget): void {
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

/** Requests that were refused because of the event-loop delay. */
export function registerShedMetrics(registry: Registry, shed: Readonly<Record<string, number>>): void {
  registerCounter(registry, {
    name: 'sluice_shed_requests_total',
    help: 'Requests that got 503 because of the event-loop delay.',
    labelNames: ['kind'],
    read: () => Object.entries(shed).map(([kind, count]) => [{ kind }, count] as const),
  })
}

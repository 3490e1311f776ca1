import type { Registry } from 'prom-client'
import type { StorageBudget } from '../operate/storage-budget.ts'
import { readCounter, readGauge } from './read.ts'

/** What the database may occupy, and what it does; nothing where there is no budget. */
export function tellStorage(registry: Registry, storage: StorageBudget): void {
  const { budgetBytes } = storage
  if (budgetBytes === undefined) return
  readGauge(registry, {
    name: 'sluice_storage_budget_bytes',
    help: 'STORAGE_BUDGET: what the database may occupy.',
    read: () => budgetBytes,
  })
  readGauge(registry, {
    name: 'sluice_storage_used_bytes',
    help: 'What the database occupies, its write-ahead log included, without the space that it will use again.',
    read: () => storage.usedBytes ?? [],
  })
  readGauge(registry, {
    name: 'sluice_storage_full',
    help: 'Is the budget spent? 1: records get 507.',
    read: () => (storage.state === 'full' ? 1 : 0),
  })
}

/** What was refused since the event loop lagged. */
export function tellShed(registry: Registry, shed: Readonly<Record<string, number>>): void {
  readCounter(registry, {
    name: 'sluice_shed_requests_total',
    help: 'Requests that got 503 because the event loop lagged.',
    labelNames: ['kind'],
    read: () => Object.entries(shed).map(([kind, count]) => [{ kind }, count] as const),
  })
}

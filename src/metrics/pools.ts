import type { Registry } from 'prom-client'
import { registerGauge } from '../lib/metrics.ts'
import type { PoolStatus } from '../postgres/connect.ts'

/** Connections to the database, by pool. */
export function registerPoolMetrics(registry: Registry, pools: { pool: string; status: () => PoolStatus }[]): void {
  const each = <T>(of: (pool: string, status: PoolStatus) => T) => pools.map(({ pool, status }) => of(pool, status()))

  registerGauge(registry, {
    name: 'sluice_pool_connections',
    help: 'Connections to the database.',
    labelNames: ['pool', 'state'],
    read: () =>
      each((pool, { total, idle }) => [
        [{ pool, state: 'idle' }, idle] as const,
        [{ pool, state: 'used' }, total - idle] as const,
      ]).flat(),
  })
  registerGauge(registry, {
    name: 'sluice_pool_max_connections',
    help: 'Maximum number of connections of the pool.',
    labelNames: ['pool'],
    read: () => each((pool, { max }) => [{ pool }, max] as const),
  })
  registerGauge(registry, {
    name: 'sluice_pool_waiting',
    help: 'Queries that wait for a connection.',
    labelNames: ['pool'],
    read: () => each((pool, { waiting }) => [{ pool }, waiting] as const),
  })
}

import { Counter, Histogram, type Registry } from 'prom-client'
import type { MemoryBudget } from '../../lib/memory-budget.ts'
import type { Writer, WriterOptions } from '../../writer/writer.ts'
import { registerCounter, registerGauge } from './register.ts'

/** Callbacks of the writer. */
interface WriterEvents extends Required<Pick<WriterOptions, 'onFlush' | 'onRetry' | 'onOutage'>> {
  /** For how long requests have waited because the database is unavailable; 0 if it is available. */
  outageSeconds(): number
}

/** Metrics of flushes and outages. */
export function measureWriter(registry: Registry): WriterEvents {
  const histogram = (name: string, help: string, buckets: number[]) =>
    new Histogram({ name, help, buckets, registers: [registry] })
  const seconds = histogram(
    'sluice_flush_duration_seconds',
    'From sending a flush to its commit.',
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10],
  )
  const rows = histogram('sluice_flush_rows', 'Records in a flush.', [1, 3, 10, 30, 100, 300, 1000, 3000, 10_000])
  const requests = histogram(
    'sluice_flush_requests',
    'Requests that share a flush.',
    [1, 2, 4, 8, 16, 32, 64, 128, 256],
  )
  const bytes = histogram(
    'sluice_flush_bytes',
    'Size of a flush, as its records were sent.',
    [10, 12, 14, 16, 18, 20, 22, 24].map((power) => 2 ** power),
  )
  const retries = new Counter({
    name: 'sluice_flush_retries_total',
    help: 'Flushes, or parts of one, that failed for a temporary reason and are sent again.',
    registers: [registry],
  })

  let outages = 0
  let outageSeconds = 0
  let outageSince: number | undefined
  const currentOutageSeconds = () => (outageSince === undefined ? 0 : (performance.now() - outageSince) / 1000)
  registerGauge(registry, {
    name: 'sluice_outage',
    help: '1 if the database is unavailable to the writer and requests wait for it, otherwise 0.',
    read: () => (outageSince === undefined ? 0 : 1),
  })
  registerCounter(registry, { name: 'sluice_outages_total', help: 'Outages of the database.', read: () => outages })
  registerCounter(registry, {
    name: 'sluice_outage_seconds_total',
    help: 'Total length of all outages of the database.',
    read: () => outageSeconds + currentOutageSeconds(),
  })

  return {
    onFlush(flush) {
      seconds.observe(flush.milliseconds / 1000)
      rows.observe(flush.rows)
      requests.observe(flush.requests)
      bytes.observe(flush.bytes)
    },
    outageSeconds: currentOutageSeconds,
    onRetry: () => retries.inc(),
    onOutage(error) {
      if (error !== undefined) outages++
      outageSeconds += currentOutageSeconds()
      outageSince = error === undefined ? undefined : performance.now()
    },
  }
}

/** Metrics of requests that wait to be written. */
export function registerQueueMetrics(registry: Registry, writer: Writer, budget: MemoryBudget): void {
  registerGauge(registry, {
    name: 'sluice_queue_bytes',
    help: 'Memory of requests that are being read or wait for their commit, and of their responses that clients have not read yet.',
    read: () => budget.used,
  })
  registerGauge(registry, {
    name: 'sluice_queue_max_bytes',
    help: 'QUEUE_MAX_BYTES: above it, requests get 503.',
    read: () => budget.max,
  })
  registerGauge(registry, {
    name: 'sluice_waiting_requests',
    help: 'Requests, and chunks of lines, that wait for their commit.',
    read: () => writer.status.waiting,
  })
  registerGauge(registry, {
    name: 'sluice_oldest_waiting_seconds',
    help: 'How long the oldest waiting request, or chunk of lines, has waited; 0 if none waits.',
    read: () => writer.status.oldestMs / 1000,
  })
  registerGauge(registry, {
    name: 'sluice_flushes',
    help: 'Flushes at the database (writing), and flushes that wait to be sent again (holding).',
    labelNames: ['state'],
    read: () => {
      const { writing, holding } = writer.status
      return [
        [{ state: 'writing' }, writing],
        [{ state: 'holding' }, holding],
      ]
    },
  })
}

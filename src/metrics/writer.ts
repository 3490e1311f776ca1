import { Counter, Histogram, type Registry } from 'prom-client'
import type { Writer, WriterOptions } from '../ingest/writer.ts'
import type { Budget } from '../lib/budget.ts'
import { readCounter, readGauge } from './read.ts'

/** What the writer tells while it works. */
export type WriterEvents = Required<Pick<WriterOptions, 'onFlush' | 'onRetry' | 'onOutage'>>

/** What is written at once, and how often and for how long it cannot be. */
export function measureWriter(registry: Registry): WriterEvents {
  const histogram = (name: string, help: string, buckets: number[]) =>
    new Histogram({ name, help, buckets, registers: [registry] })
  const seconds = histogram(
    'sluice_flush_duration_seconds',
    'From a flush being sent to its commit.',
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
    'Size of a flush, as its bodies came.',
    [10, 12, 14, 16, 18, 20, 22, 24].map((power) => 2 ** power),
  )
  const retries = new Counter({
    name: 'sluice_flush_retries_total',
    help: 'Flushes, or pieces of one, that failed for no fault of theirs and are to be sent again.',
    registers: [registry],
  })

  let outages = 0
  let outageSeconds = 0
  let awaySince: number | undefined
  const away = () => (awaySince === undefined ? 0 : (performance.now() - awaySince) / 1000)
  readGauge(registry, {
    name: 'sluice_outage',
    help: 'Is the database away, as far as writing has noticed? 1: requests wait for it.',
    read: () => (awaySince === undefined ? 0 : 1),
  })
  readCounter(registry, { name: 'sluice_outages_total', help: 'Times the database went away.', read: () => outages })
  readCounter(registry, {
    name: 'sluice_outage_seconds_total',
    help: 'How long the database was away, all outages together.',
    read: () => outageSeconds + away(),
  })

  return {
    onFlush(flush) {
      seconds.observe(flush.milliseconds / 1000)
      rows.observe(flush.rows)
      requests.observe(flush.requests)
      bytes.observe(flush.bytes)
    },
    onRetry: () => retries.inc(),
    onOutage(error) {
      if (error !== undefined) outages++
      outageSeconds += away()
      awaySince = error === undefined ? undefined : performance.now()
    },
  }
}

/** What waits to be written. */
export function tellQueue(registry: Registry, writer: Writer, budget: Budget): void {
  readGauge(registry, {
    name: 'sluice_queue_bytes',
    help: 'Memory of requests that are being read or wait for their commit, and of answers to them that are not taken yet.',
    read: () => budget.used,
  })
  readGauge(registry, {
    name: 'sluice_queue_max_bytes',
    help: 'QUEUE_MAX_BYTES: beyond it requests get 503.',
    read: () => budget.max,
  })
  readGauge(registry, {
    name: 'sluice_waiting_requests',
    help: 'Requests, and chunks of lines, that wait for their commit.',
    read: () => writer.status.waiting,
  })
  readGauge(registry, {
    name: 'sluice_oldest_waiting_seconds',
    help: 'How long the oldest of them has waited; 0: none waits.',
    read: () => writer.status.oldestMs / 1000,
  })
  readGauge(registry, {
    name: 'sluice_flushes',
    help: 'Flushes under way: at the database (writing), or waiting to be sent again (holding).',
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

import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Registry } from 'prom-client'
import { type ConsumerRow, selectConsumers } from '../data/consumers.ts'
import { FairSemaphore } from '../lib/fair-semaphore.ts'
import { toRfc3339 } from '../lib/pg-time.ts'
import { settlesWithin } from '../lib/settles-within.ts'
import { SingleFlight } from '../lib/single-flight.ts'
import { registerGauge } from './metrics/register.ts'

/**
 * Statements about consumers use the connections of the feed, at most two at a time: if the table of consumers is locked, one is left
 * to the readers of the feed.
 */
const CONNECTIONS = 2

/** The least time between two readings of the consumers for the metrics. */
const PAUSE_MS = 15_000
/** How long a scrape waits for a reading. After that, it gets the values of the last one. */
const MAX_WAIT_MS = 500
/** Older values are not reported: an alert about a lag must not rest on a lag of the past. */
const MAX_AGE_MS = 60_000

/** The consumers' turns at the database, and the metrics of their lags. Every instance reports the same values: aggregate them with max. */
export default fp(
  async function consumers(app: FastifyInstance) {
    const stop = new AbortController()
    const turns = new FairSemaphore(CONNECTIONS, 'Other requests read or store offsets of consumers. Try again later.')
    app.decorate('consumerTurns', turns)
    registerMetrics(app.metrics, () =>
      turns.run('', { signal: stop.signal }, () => selectConsumers(app.db.feed, undefined, stop.signal)),
    )
    app.addHook('onClose', async () => stop.abort(new Error('the server closes')))
  },
  { name: 'consumers', dependencies: ['metrics', 'database'] },
)

function registerMetrics(registry: Registry, select: () => Promise<ConsumerRow[]>): void {
  const latest = latestOf(select)
  const perConsumer = (name: string, help: string, value: (consumer: ConsumerRow) => number | null) =>
    registerGauge(registry, {
      name,
      help,
      labelNames: ['consumer'],
      read: async () =>
        (await latest()).flatMap((consumer) => {
          const found = value(consumer)
          return found === null ? [] : [[{ consumer: consumer.name }, found] as const]
        }),
    })

  perConsumer(
    'sluice_consumer_lag_records',
    'Records of the feed after the offset of the consumer; above 10,000 an estimate.',
    ({ records }) => records,
  )
  perConsumer(
    'sluice_consumer_lag_seconds',
    'Age of the oldest of these records; 0 if there is none.',
    ({ seconds }) => seconds,
  )
  perConsumer(
    'sluice_consumer_overtaken_timestamp_seconds',
    'When retention last deleted records that the consumer had not read. No value: never.',
    ({ overtaken_at }) => (overtaken_at === null ? null : Date.parse(toRfc3339(overtaken_at)) / 1000),
  )
}

/** If a reading fails, there are no values: other metrics show that the database is unavailable. */
function latestOf(select: () => Promise<ConsumerRow[]>): () => Promise<ConsumerRow[]> {
  let known: { rows: ConsumerRow[]; at: number } | undefined
  const age = () => performance.now() - (known?.at ?? Number.NEGATIVE_INFINITY)
  const reading = new SingleFlight(async () => {
    const at = performance.now()
    known = await select().then(
      (rows) => ({ rows, at }),
      () => undefined,
    )
  })
  return async () => {
    if (age() >= PAUSE_MS) await settlesWithin(reading.run(), MAX_WAIT_MS)
    return age() < MAX_AGE_MS ? (known?.rows ?? []) : []
  }
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Limits the statements about consumers, and shares them between API keys. */
    consumerTurns: FairSemaphore
  }
}

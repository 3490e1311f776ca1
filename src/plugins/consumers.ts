import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Registry } from 'prom-client'
import { type ConsumerWithLag, selectConsumers } from '../data/consumers.ts'
import { FairSemaphore } from '../lib/fair-semaphore.ts'
import { toRfc3339 } from '../lib/pg-time.ts'
import { latestOf } from './metrics/latest.ts'
import { registerGauge } from './metrics/register.ts'

/**
 * Statements about consumers use the connections of the feed, at most two at a time: if the table of consumers is locked, one is left
 * to the readers of the feed.
 */
const CONNECTIONS = 2

/**
 * A scrape gets values of this age at most. After a failure they stay a little longer, but not for ever: otherwise an alert would
 * be based on an old lag.
 */
const AGES = { pauseMs: 15_000, maxAgeMs: 60_000 }

/** The consumers' turns at the database, and the metrics of their lags. Every instance reports the same values: aggregate them with max. */
export default fp(
  async function consumers(app: FastifyInstance) {
    const stop = new AbortController()
    const turns = new FairSemaphore(CONNECTIONS, 'Other requests read or store offsets of consumers. Try again later.')
    app.decorate('consumerTurns', turns)
    const select = () =>
      turns.run('', { signal: stop.signal }, () => selectConsumers(app.db.feed, undefined, stop.signal))
    app.decorate('consumerLags', latestOf(select, AGES))
    registerMetrics(app.metrics, app.consumerLags)
    app.addHook('onClose', async () => stop.abort(new Error('the server closes')))
  },
  { name: 'consumers', dependencies: ['metrics', 'database'] },
)

function registerMetrics(registry: Registry, latest: () => Promise<ConsumerWithLag[] | undefined>): void {
  const perConsumer = (name: string, help: string, value: (consumer: ConsumerWithLag) => number | null) =>
    registerGauge(registry, {
      name,
      help,
      labelNames: ['consumer'],
      read: async () =>
        ((await latest()) ?? []).flatMap((consumer) => {
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

declare module 'fastify' {
  interface FastifyInstance {
    /** Limits the statements about consumers, and shares them between API keys. */
    consumerTurns: FairSemaphore
    /** The consumers with their lags, at most a minute old; undefined: the database has not returned them. */
    consumerLags(): Promise<ConsumerWithLag[] | undefined>
  }
}

import underPressure from '@fastify/under-pressure'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Registry } from 'prom-client'
import { Problem } from '../problems.ts'
import { registerCounter } from './metrics/register.ts'

/** Kinds of requests: ingestion is shed first, reading later. */
type Sheddable = 'ingest' | 'read'

/**
 * Longer than any single iteration of the event loop. The largest batch takes half a second on a shared processor; if an
 * interval had only this one iteration, it would be the mean.
 */
const SAMPLE_MS = 2_000

/**
 * Sheds load when the event-loop delay is high: ingestion first, reading later, probes never. A route declares its kind with
 * `config: { shed: 'ingest' }`.
 *
 * The event-loop delay is how late this process does everything, as a mean over two seconds. One long iteration, such as for a
 * body of 16 MiB, is one among many. While the delay is low, the check costs a request one comparison.
 */
export default fp(async function shedding(app: FastifyInstance) {
  const { config } = app
  const limits = { ingest: config.SHED_INGEST_SECONDS * 1000, read: config.SHED_READ_SECONDS * 1000 }
  const shed = { ingest: 0, read: 0 }
  registerMetrics(app.metrics, shed)

  await app.register(underPressure, {
    maxEventLoopDelay: limits.ingest,
    sampleInterval: SAMPLE_MS,
    pressureHandler: (request) => {
      const kind = request.routeOptions.config.shed
      if (kind === undefined || delayMs() <= limits[kind]) return
      shed[kind]++
      throw new Problem(
        'overloaded',
        'This instance is overloaded. The request was not processed. Send it again later.',
      )
    },
  })

  /** The measurement is infinite if the interval had no whole iteration: then the length of the interval counts. */
  const delayMs = () => {
    const { eventLoopDelay } = app.memoryUsage()
    return eventLoopDelay === Number.POSITIVE_INFINITY ? SAMPLE_MS : eventLoopDelay
  }

  app.decorate('shedding', {
    shed,
    get delaySeconds() {
      return delayMs() / 1000
    },
    get state() {
      const delay = delayMs()
      return delay > limits.read ? 'all' : delay > limits.ingest ? 'ingest' : 'none'
    },
  })
})

/** Requests that were refused because of the event-loop delay. */
function registerMetrics(registry: Registry, shed: Readonly<Record<string, number>>): void {
  registerCounter(registry, {
    name: 'sluice_shed_requests_total',
    help: 'Requests that got 503 because of the event-loop delay.',
    labelNames: ['kind'],
    read: () => Object.entries(shed).map(([kind, count]) => [{ kind }, count] as const),
  })
}

declare module 'fastify' {
  interface FastifyInstance {
    shedding: {
      /** Requests that were shed so far. */
      readonly shed: Readonly<Record<Sheddable, number>>
      /** The event-loop delay. */
      readonly delaySeconds: number
      /** What is shed now. */
      readonly state: 'none' | 'ingest' | 'all'
    }
  }
  interface FastifyContextConfig {
    shed?: Sheddable
  }
}

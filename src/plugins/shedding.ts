import underPressure from '@fastify/under-pressure'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import { Problem } from '../lib/problems.ts'
import { tellShed } from '../metrics/overload.ts'

/** What is shed first, and what later. */
export type Sheddable = 'ingest' | 'read'

/**
 * Longer than any one turn: the largest batch takes half a second where the processor is not ours alone, and one turn in
 * an interval by itself would be the mean.
 */
const SAMPLE_MS = 2_000

/**
 * Sheds load when the event loop lags: ingestion first, reading later, probes never. A route says what it is with
 * `config: { shed: 'ingest' }`.
 *
 * The lag is how long a turn of the event loop takes, on average over two seconds: how late everything is that this process
 * does. One long turn, such as a body of 16 MiB makes, is one among many. While it is not too long, a request pays with
 * one comparison.
 */
export default fp(async function shedding(app: FastifyInstance, { config }: { config: Config }) {
  const limits = { ingest: config.SHED_INGEST_SECONDS * 1000, read: config.SHED_READ_SECONDS * 1000 }
  const shed = { ingest: 0, read: 0 }
  tellShed(app.metrics, shed)

  await app.register(underPressure, {
    maxEventLoopDelay: limits.ingest,
    sampleInterval: SAMPLE_MS,
    pressureHandler: (request) => {
      const kind = request.routeOptions.config.shed
      if (kind === undefined || lagMs() <= limits[kind]) return
      shed[kind]++
      throw new Problem('overloaded', 'This instance is overloaded. Nothing was done; send the request again later.')
    },
  })

  /** Infinite where there was no whole turn to be measured: then it is as long as the interval, as far as anyone knows. */
  const lagMs = () => {
    const { eventLoopDelay } = app.memoryUsage()
    return eventLoopDelay === Number.POSITIVE_INFINITY ? SAMPLE_MS : eventLoopDelay
  }

  app.decorate('shedding', {
    shed,
    get lagSeconds() {
      return lagMs() / 1000
    },
    get state() {
      const lag = lagMs()
      return lag > limits.read ? 'all' : lag > limits.ingest ? 'ingest' : 'none'
    },
  })
})

declare module 'fastify' {
  interface FastifyInstance {
    shedding: {
      /** Requests that were shed so far. */
      readonly shed: Readonly<Record<Sheddable, number>>
      readonly lagSeconds: number
      /** What is shed now. */
      readonly state: 'none' | 'ingest' | 'all'
    }
  }
  interface FastifyContextConfig {
    shed?: Sheddable
  }
}

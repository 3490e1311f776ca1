import Fastify, { type FastifyInstance, LogController } from 'fastify'
import fp from 'fastify-plugin'
import type { Registry } from 'prom-client'
import type { Config } from '../config.ts'
import { type Counts, noCounts } from '../ingest/results.ts'
import { createRegistry } from '../metrics/registry.ts'
import { measureRequests, tellRecords } from '../metrics/requests.ts'
import bodies from './bodies.ts'
import problems, { onClientError } from './problems.ts'
import refusals from './refusals.ts'
import requests, { requestId } from './requests.ts'

/**
 * What there is to measure, and GET /metrics on a server of its own: it needs no key, so it must not be where callers are.
 * Whoever starts the app tells it to listen. First to be registered, it is the last to be closed.
 */
export default fp(
  async function metrics(app: FastifyInstance, { config }: { config: Config }) {
    const registry = createRegistry()
    app.decorate('metrics', registry)
    app.decorate('recordCounts', noCounts())
    tellRecords(registry, app.recordCounts)

    const observe = measureRequests(registry)
    app.decorate('measureRequest', ({ method, routeOptions }, { statusCode, elapsedTime }) =>
      observe(method, routeOptions.url, statusCode, elapsedTime / 1000),
    )
    app.addHook('onResponse', (request, reply, done) => {
      app.measureRequest(request, reply)
      done()
    })

    app.decorate('metricsServer', await buildServer(registry, app, config))
    app.addHook('onClose', () => app.metricsServer.close())
  },
  { name: 'metrics' },
)

async function buildServer(registry: Registry, { log }: FastifyInstance, config: Config): Promise<FastifyInstance> {
  const server: FastifyInstance = Fastify({
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true }),
    childLoggerFactory: (parent) => parent,
    genReqId: requestId,
    // A scraper keeps its connection; a scrape that is cut is made again.
    forceCloseConnections: true,
    clientErrorHandler: (error, socket) => onClientError(server, error, socket),
  })
  await server.register(bodies, { stallSeconds: config.STALL_SECONDS })
  await server.register(refusals)
  await server.register(requests)
  await server.register(problems, { whatIsHere: 'Here is only /metrics.' })
  server.get('/metrics', { config: { quiet: true } }, async (_request, reply) =>
    reply.type(registry.contentType).send(await registry.metrics()),
  )
  server.refuseOtherMethods()
  return server
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Where whatever there is to measure is added. */
    metrics: Registry
    metricsServer: FastifyInstance
    /** What became of records, since the start. */
    recordCounts: Counts
    /** For requests that no hook is run for; all others are measured already. */
    measureRequest(request: FastifyRequest, reply: FastifyReply): void
  }
}

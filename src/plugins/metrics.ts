import Fastify, { type FastifyInstance, LogController } from 'fastify'
import fp from 'fastify-plugin'
import { Gauge, Registry } from 'prom-client'
import type { Config } from '../config.ts'
import { RecordTotals } from '../ingest/record-totals.ts'
import { VERSION } from '../lib/version.ts'
import accessLog, { requestId } from './access-log.ts'
import addresses from './addresses.ts'
import bodies from './bodies.ts'
import clientErrors from './client-errors.ts'
import httpRules from './http-rules.ts'
import incompleteResponses from './incomplete-responses.ts'
import lingering, { discarding } from './lingering.ts'
import logThrottle from './log-throttle.ts'
import { processMetrics } from './metrics/process.ts'
import { measureRequests, registerRecordMetrics } from './metrics/requests.ts'
import problems from './problems.ts'
import unmatched from './unmatched.ts'

/**
 * The registry of all metrics, and GET /metrics on a server of its own: it needs no key, so clients must not reach it.
 * The code that starts the app also calls its `listen`. It is registered first, so it closes last.
 */
export default fp(
  async function metrics(app: FastifyInstance) {
    const { config } = app
    const registry = createRegistry()
    app.decorate('metrics', registry)
    app.decorate('recordTotals', new RecordTotals())
    registerRecordMetrics(registry, app.recordTotals.counts)

    const observe = measureRequests(registry)
    app.decorate('measureRequest', ({ method, routeOptions }, { statusCode, elapsedTime }) =>
      observe(method, routeOptions.url, statusCode, elapsedTime / 1000),
    )
    app.decorate('countRefusal', (method, status) => observe(method, undefined, status, 0))
    app.addHook('onResponse', (request, reply, done) => {
      app.measureRequest(request, reply)
      done()
    })

    app.decorate('metricsServer', await buildServer(registry, app, config))
    app.addHook('onClose', () => app.metricsServer.close())
  },
  { name: 'metrics' },
)

/**
 * The metrics of one server, with those of its process. Each plugin registers its own, mostly with the functions of
 * metrics/register.ts. Names follow Prometheus' rules (https://prometheus.io/docs/practices/naming): base units, and `_total` for
 * counters. Labels have few values, which we define: never an id, a path or a header of a client. No label is called `job`,
 * `instance`, `pod` or `namespace`, because Prometheus and its operator add these to what they scrape.
 */
function createRegistry(): Registry {
  const registry = Registry.merge([processMetrics()])
  new Gauge({
    name: 'sluice_build_info',
    help: 'The version of Sluice and of Node.js; always 1.',
    labelNames: ['version', 'node'],
    registers: [registry],
  }).set({ version: VERSION, node: process.versions.node }, 1)
  return registry
}

async function buildServer(registry: Registry, { log }: FastifyInstance, config: Config): Promise<FastifyInstance> {
  const server: FastifyInstance = Fastify({
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true }),
    childLoggerFactory: (parent) => parent,
    genReqId: requestId,
    // A scraper keeps its connection open. It repeats a scrape that is cut off.
    forceCloseConnections: true,
    // http-rules.ts checks the Host header.
    http: { requireHostHeader: false },
    clientErrorHandler: (error, socket) => server.onClientError(error, socket),
  })
  await server.register(incompleteResponses)
  await server.register(lingering, discarding(config))
  await server.register(bodies, discarding(config))
  await server.register(logThrottle)
  await server.register(clientErrors)
  await server.register(accessLog)
  await server.register(httpRules)
  await server.register(unmatched, { hint: 'Only /metrics is on this port.' })
  await server.register(problems)
  server.get('/metrics', { config: { quiet: true } }, async (_request, reply) =>
    reply.type(registry.contentType).send(await registry.metrics()),
  )
  server.answerOtherMethods()
  await server.register(addresses)
  return server
}

declare module 'fastify' {
  interface FastifyInstance {
    /** All metrics are registered here. */
    metrics: Registry
    metricsServer: FastifyInstance
    recordTotals: RecordTotals
    /** For requests that run no hooks; all others are measured by one. */
    measureRequest(request: FastifyRequest, reply: FastifyReply): void
    /** For what reaches no route: see client-errors.ts. Absent on the metrics server, whose requests are not measured. */
    countRefusal?: (method: string, status: number) => void
  }
}

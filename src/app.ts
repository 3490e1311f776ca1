import type { IncomingMessage } from 'node:http'
import env from '@fastify/env'
import Fastify, {
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify'
import type { Logger } from 'pino'
import { type Config, ConfigSchema } from './config.ts'
import { removePrefix } from './lib/path-prefix.ts'
import accessLog, { logRequest, requestId } from './plugins/access-log.ts'
import addresses from './plugins/addresses.ts'
import bodies from './plugins/bodies.ts'
import clientErrors from './plugins/client-errors.ts'
import closing from './plugins/closing.ts'
import connections from './plugins/connections.ts'
import consumers from './plugins/consumers.ts'
import cors from './plugins/cors.ts'
import database from './plugins/database.ts'
import fairTurns from './plugins/fair-turns.ts'
import feed from './plugins/feed.ts'
import heldFeed from './plugins/held-feed.ts'
import httpRules from './plugins/http-rules.ts'
import incompleteResponses from './plugins/incomplete-responses.ts'
import jobs from './plugins/job-metrics.ts'
import keys from './plugins/keys.ts'
import limits from './plugins/limits.ts'
import lingering, { discarding } from './plugins/lingering.ts'
import logThrottle from './plugins/log-throttle.ts'
import metrics from './plugins/metrics.ts'
import openapi from './plugins/openapi.ts'
import problems, { sendProblem, toProblem } from './plugins/problems.ts'
import readiness from './plugins/readiness.ts'
import responseMemory from './plugins/response-memory.ts'
import rollups from './plugins/rollups.ts'
import shedding from './plugins/shedding.ts'
import stalledWriters from './plugins/stalled-writers.ts'
import status from './plugins/status.ts'
import storage from './plugins/storage.ts'
import timeouts, { headerTimeouts } from './plugins/timeouts.ts'
import tracing from './plugins/tracing.ts'
import unmatched from './plugins/unmatched.ts'
import settings from './plugins/unsafe-settings.ts'
import writer from './plugins/writer.ts'
import consoleRoute from './routes/console.ts'
import consumerRoutes from './routes/consumers.ts'
import feedRoutes from './routes/feed.ts'
import health from './routes/health.ts'
import ingest from './routes/ingest.ts'
import keyRoutes from './routes/keys.ts'
import openapiRoute from './routes/openapi.ts'
import records from './routes/records.ts'
import stats from './routes/stats.ts'
import statusRoute from './routes/status.ts'
import { MAX_BYTES } from './schemas/formats.ts'

/** Maximum length of a path parameter: the longest source, all percent-encoded. */
const MAX_PARAM_LENGTH = MAX_BYTES.source * 3

/** Builds the server. The commands, the tests and the bench all use this function. DATABASE_URL must be set. */
export async function buildApp(config: Config, logger: Logger): Promise<FastifyInstance> {
  const { PATH_PREFIX: prefix } = config
  const app: FastifyInstance = Fastify({
    loggerInstance: logger,
    // plugins/access-log.ts logs one line per request. A child logger for each request would cost more than that line.
    logController: new LogController({ disableRequestLogging: true }),
    childLoggerFactory: (parent) => parent,
    genReqId: requestId,
    // Otherwise a misspelt query parameter would be dropped, and the list would be unfiltered. `verbose` adds the schema and the
    // value to an error.
    ajv: { customOptions: { removeAdditional: false, verbose: true } },
    ...(prefix && { rewriteUrl: ({ url = '/' }: IncomingMessage) => removePrefix(prefix, url) }),
    routerOptions: { maxParamLength: MAX_PARAM_LENGTH },
    // While the server closes, requests in flight get their response. Only idle connections are closed.
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    // plugins/http-rules.ts checks the Host header.
    http: { ...headerTimeouts(config), requireHostHeader: false },
    clientErrorHandler: (error, socket) => app.onClientError(error, socket),
    // Called for a path that the router cannot read. No hook runs for such a request.
    frameworkErrors: (error: FastifyError, request: FastifyRequest, reply: FastifyReply) => {
      // Without hooks, the request does not wait in plugins/fair-turns.ts. Closing its connection slows a flood down instead:
      // libuv accepts one new connection per iteration of the event loop.
      reply.headers({ 'x-request-id': request.id, connection: 'close', ...app.corsHeaders?.(request.headers.origin) })
      if (!app.answerPreflight?.(request, reply)) sendProblem(toProblem(error), request, reply)
      logRequest(request, reply)
      app.measureRequest(request, reply)
    },
  }) as unknown as FastifyInstance

  // Responses are sent as text or bytes. By default, Fastify would compile a function for each status of each route, and use none of
  // them.
  app.setSerializerCompiler(() => JSON.stringify)

  await app.register(env, { schema: ConfigSchema, data: config, env: false, confKey: 'config' })
  app.decorate('pathPrefix', prefix ?? '')
  await app.register(metrics)
  await app.register(incompleteResponses)
  await app.register(timeouts)
  await app.register(lingering, discarding(config))
  await app.register(bodies, discarding(config))
  await app.register(logThrottle)
  await app.register(clientErrors)
  await app.register(accessLog)
  await app.register(tracing)
  await app.register(httpRules)
  await app.register(unmatched)
  await app.register(problems)
  await app.register(openapi)

  await app.register(closing)
  await app.register(connections)
  await app.register(responseMemory)
  await app.register(database)
  await app.register(readiness)
  await app.register(settings)
  await app.register(stalledWriters)
  await app.register(feed)
  await app.register(heldFeed)
  await app.register(consumers)
  await app.register(writer)
  await app.register(keys)
  await app.register(fairTurns)
  await app.register(cors)
  // After fair-turns: otherwise refusing one key's flood would cause the delay for which every key is refused.
  await app.register(shedding)
  await app.register(storage)
  await app.register(limits)
  await app.register(jobs)
  await app.register(rollups)
  await app.register(status)

  await app.register(health)
  await app.register(openapiRoute)
  await app.register(ingest)
  await app.register(records)
  await app.register(feedRoutes)
  await app.register(consumerRoutes)
  await app.register(keyRoutes)
  await app.register(stats)
  await app.register(statusRoute)
  await app.register(consoleRoute)
  app.answerOtherMethods()
  await app.register(addresses)
  return app
}

declare module 'fastify' {
  interface FastifyInstance {
    config: Config
    /** PATH_PREFIX, or ''. What a response says about paths begins with it. Absent on the metrics server. */
    pathPrefix?: string
  }
}

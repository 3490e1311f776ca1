import env from '@fastify/env'
import Fastify, { type FastifyInstance, LogController } from 'fastify'
import type { Logger } from 'pino'
import { type Config, ConfigSchema } from './config.ts'
import bodies from './plugins/bodies.ts'
import closing from './plugins/closing.ts'
import database from './plugins/database.ts'
import fairTurns from './plugins/fair-turns.ts'
import jobs from './plugins/jobs.ts'
import keys from './plugins/keys.ts'
import limits from './plugins/limits.ts'
import metrics from './plugins/metrics.ts'
import openapi from './plugins/openapi.ts'
import problems, { onClientError, sendProblem, toProblem } from './plugins/problems.ts'
import readiness from './plugins/readiness.ts'
import refusals from './plugins/refusals.ts'
import requests, { logRequest, requestId } from './plugins/requests.ts'
import settings from './plugins/settings.ts'
import shedding from './plugins/shedding.ts'
import silentWriters from './plugins/silent-writers.ts'
import storage from './plugins/storage.ts'
import timeouts, { headerTimeouts } from './plugins/timeouts.ts'
import tracing from './plugins/tracing.ts'
import unread from './plugins/unread.ts'
import writer from './plugins/writer.ts'
import health from './routes/health.ts'
import ingest from './routes/ingest.ts'
import openapiRoute from './routes/openapi.ts'
import records from './routes/records.ts'

/** The longest a path parameter can be: a source of 512 bytes, each percent-encoded. */
const LONGEST_PARAM = 512 * 3

/** The one way to make the server: the commands, the tests and the bench all call it. DATABASE_URL must be set. */
export async function buildApp(config: Config, logger: Logger): Promise<FastifyInstance> {
  const app: FastifyInstance = Fastify({
    loggerInstance: logger,
    // The access log of plugins/requests.ts is one line a request; a child logger for each would cost more than the line.
    logController: new LogController({ disableRequestLogging: true }),
    childLoggerFactory: (parent) => parent,
    genReqId: requestId,
    // A parameter with a misspelt name would else be dropped, and the list come back unfiltered.
    ajv: { customOptions: { removeAdditional: false } },
    routerOptions: { maxParamLength: LONGEST_PARAM },
    // What is in flight while closing is answered; only idle connections are cut.
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    http: headerTimeouts(config),
    clientErrorHandler: (error, socket) => onClientError(app, error, socket),
    // A path that no route can be found for: here no hook has run, nor will.
    frameworkErrors: (error, request, reply) => {
      // It takes no turn (plugins/fair-turns.ts), but new connections are accepted one in a turn.
      reply.headers({ 'x-request-id': request.id, connection: 'close' })
      sendProblem(toProblem(error), request as never, reply as never)
      logRequest(request as never, reply as never)
      app.measureRequest(request as never, reply as never)
    },
  }) as unknown as FastifyInstance

  await app.register(env, { schema: ConfigSchema, data: config, env: false, confKey: 'config' })
  await app.register(metrics, { config })
  await app.register(timeouts, { config })
  await app.register(bodies, { stallSeconds: config.STALL_SECONDS })
  await app.register(refusals)
  await app.register(requests)
  await app.register(tracing, { config })
  await app.register(openapi)
  await app.register(problems)

  await app.register(closing, { config })
  await app.register(unread, { config })
  await app.register(database, { config })
  await app.register(readiness)
  await app.register(settings)
  await app.register(silentWriters)
  await app.register(writer, { config })
  await app.register(keys)
  await app.register(fairTurns, { config })
  // After the turns: otherwise the refusals of one key's flood would cause the lag that gets every key refused.
  await app.register(shedding, { config })
  await app.register(storage, { config })
  await app.register(limits, { config })
  await app.register(jobs)

  await app.register(health)
  await app.register(openapiRoute)
  await app.register(ingest, { config })
  await app.register(records, { config })
  app.refuseOtherMethods()
  return app
}

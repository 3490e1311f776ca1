import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { Logger } from 'pino'
import { writeCounts } from '../ingest/results.ts'
import { logLine } from '../logger.ts'
import type { Counts } from '../schemas/results.ts'

/** W3C Trace Context, section 3.2. An id of only zeros is invalid. */
const TRACEPARENT = /^(?!ff)[\da-f]{2}-(?!0{32})([\da-f]{32})-(?!0{16})[\da-f]{16}-[\da-f]{2}$/

/** Gives each request its id and its trace, and logs one line after its response. */
export default fp(
  async function accessLog(app: FastifyInstance) {
    app.decorateRequest('traceparent', undefined)
    app.decorateRequest('traceId', undefined)
    app.decorateRequest('spanId', undefined)
    app.decorateRequest('counts', undefined)
    app.decorateRequest('consumer', undefined)
    app.decorateRequest('problemCode', undefined)
    app.decorateRequest('isLogged', true)

    app.decorateReply('sendJson', function (json) {
      return this.type('application/json; charset=utf-8').send(json)
    })

    app.addHook('onRequest', (request, reply, done) => {
      reply.header('x-request-id', request.id)
      const { traceparent } = request.headers
      if (typeof traceparent === 'string' && TRACEPARENT.test(traceparent)) {
        request.traceparent = traceparent
        request.traceId = traceparent.slice(3, 35)
      }
      done()
    })

    app.addHook('onResponse', (request, reply, done) => {
      logRequest(request, reply)
      done()
    })
  },
  { name: 'access-log' },
)

/** Writes the one log line of a request. Its fields are fixed: no payload and no secret of a key can get into it. */
export function logRequest(request: FastifyRequest, reply: FastifyReply): void {
  if (!request.isLogged) return
  const { url, config } = request.routeOptions
  // Probes come every few seconds from every node. Successful ones say nothing new.
  const level = config?.quiet === true && reply.statusCode < 400 ? 'debug' : 'info'
  const { traceId, spanId, problemCode, key, consumer, counts } = request
  let fields = `"requestId":${JSON.stringify(request.id)}`
  if (traceId !== undefined) fields += `,"traceId":"${traceId}"`
  if (spanId !== undefined) fields += `,"spanId":"${spanId}"`
  // The template, never the path: a path contains ids.
  fields += `,"method":"${request.method}","route":${JSON.stringify(url ?? null)},"status":${reply.statusCode}`
  fields += `,"durationMs":${Math.round(reply.elapsedTime * 1000) / 1000}`
  if (problemCode !== undefined) fields += `,"code":"${problemCode}"`
  if (key !== undefined) fields += `,"key":"${key.id}"`
  if (consumer !== undefined) fields += `,"consumer":"${consumer}"`
  if (counts !== undefined) fields += `,"counts":${writeCounts(counts)}`
  logLine(request.log as Logger, level, fields, 'request')
}

/** The client's X-Request-Id if it is safe in a header and in a log, otherwise a new id. */
export function requestId(raw: IncomingMessage): string {
  const given = raw.headers['x-request-id']
  return typeof given === 'string' && /^[\x21-\x7e]{1,128}$/.test(given) ? given : randomUUID()
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Stored with the request's records. */
    traceparent: string | undefined
    /** For the log. */
    traceId: string | undefined
    spanId: string | undefined
    counts: Counts | undefined
    /** The name of a consumer, which needs no escaping. */
    consumer: string | undefined
  }
  interface FastifyReply {
    /** Sends JSON that is already serialized. */
    sendJson(json: string | Buffer): this
  }
  interface FastifyContextConfig {
    /** Successful requests are logged at the level debug only. */
    quiet?: boolean
  }
}

import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { Logger } from 'pino'
import { type Counts, writeCounts } from '../ingest/results.ts'
import { logLine } from '../logger.ts'

/** W3C Trace Context, section 3.2; all zeros are invalid ids there. */
const TRACEPARENT = /^(?!ff)[\da-f]{2}-(?!0{32})([\da-f]{32})-(?!0{16})[\da-f]{16}-[\da-f]{2}$/

/** Gives each request its id and its trace, and logs one line when it is answered. */
export default fp(
  async function requests(app: FastifyInstance) {
    app.decorateRequest('traceparent', undefined)
    app.decorateRequest('traceId', undefined)
    app.decorateRequest('spanId', undefined)
    app.decorateRequest('counts', undefined)
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
  { name: 'requests' },
)

/** The one line of a request. Fields are fixed: nothing of a payload or a key can get into it. */
export function logRequest(request: FastifyRequest, reply: FastifyReply): void {
  if (!request.isLogged) return
  const { url, config } = request.routeOptions
  // Probes come every few seconds from every node, and say nothing while they succeed.
  const level = config?.quiet === true && reply.statusCode < 400 ? 'debug' : 'info'
  const { traceId, spanId, problemCode, key, counts } = request
  let fields = `"requestId":${JSON.stringify(request.id)}`
  if (traceId !== undefined) fields += `,"traceId":"${traceId}"`
  if (spanId !== undefined) fields += `,"spanId":"${spanId}"`
  // The template, never the path: that holds ids.
  fields += `,"method":"${request.method}","route":${JSON.stringify(url ?? null)},"status":${reply.statusCode}`
  fields += `,"durationMs":${Math.round(reply.elapsedTime * 1000) / 1000}`
  if (problemCode !== undefined) fields += `,"code":"${problemCode}"`
  if (key !== undefined) fields += `,"key":"${key.id}"`
  if (counts !== undefined) fields += `,"counts":${writeCounts(counts)}`
  logLine(request.log as Logger, level, fields, 'request')
}

/** The caller's X-Request-Id where it is fit for a header and a log, else a new one. */
export function requestId(raw: IncomingMessage): string {
  const given = raw.headers['x-request-id']
  return typeof given === 'string' && /^[\x21-\x7e]{1,128}$/.test(given) ? given : randomUUID()
}

declare module 'fastify' {
  interface FastifyRequest {
    /** What goes into its records. */
    traceparent: string | undefined
    /** For the log. */
    traceId: string | undefined
    spanId: string | undefined
    counts: Counts | undefined
  }
  interface FastifyReply {
    /** Sends JSON that is text already, past the serializer. */
    sendJson(json: string | Buffer): this
  }
  interface FastifyContextConfig {
    /** Do not log what succeeds. */
    quiet?: boolean
  }
}

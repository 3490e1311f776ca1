import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { isTraced } from '../config.ts'
import type { Traces } from './tracing/traces.ts'

type RequestSpan = ReturnType<Traces['startRequest']>

/** OpenTelemetry traces, if the settings turn them on. Otherwise, no OpenTelemetry code is loaded. */
export default fp(
  async function tracing(app: FastifyInstance) {
    const { config } = app
    app.decorate('traces', undefined as Traces | undefined)
    app.decorateRequest('span', undefined)
    if (!isTraced(config)) return

    const { openTraces } = await import('./tracing/sdk.ts')
    const log: FastifyBaseLogger = app.log
    const { traces, close } = openTraces(config, (fields, message) => log.warn(fields, message))
    app.traces = traces
    app.addHook('onClose', close)

    app.addHook('onRequest', (request, _reply, done) => {
      const { url, config } = request.routeOptions
      // Probes are not traced.
      if (config?.quiet === true) return done()
      const { method, headers, httpVersion } = request.raw
      const span = traces.startRequest({ method: method ?? '', headers, httpVersion, route: url })
      request.span = span
      request.traceId = span.spanContext().traceId
      request.spanId = span.spanContext().spanId
      // A record keeps the trace that it came from (CloudEvents, distributed tracing extension): the client's traceparent or, if
      // it sent none, this request's span, provided that the span is recorded.
      if (span.isRecording()) request.traceparent ??= `00-${request.traceId}-${request.spanId}-01`
      traces.runIn(span, done)
    })
    app.addHook('onResponse', (request, reply, done) => {
      if (request.span !== undefined) {
        traces.endRequest(request.span, { status: reply.statusCode, code: request.problemCode })
      }
      done()
    })
  },
  { name: 'tracing', dependencies: ['access-log'] },
)

declare module 'fastify' {
  interface FastifyInstance {
    /** Undefined if traces are off. */
    traces: Traces | undefined
  }
  interface FastifyRequest {
    span: RequestSpan | undefined
  }
}

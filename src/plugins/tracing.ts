import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { type Config, isTraced } from '../config.ts'
import type { Traces } from '../traces/traces.ts'

type RequestSpan = ReturnType<Traces['startRequest']>

/** Traces of OpenTelemetry, where the settings ask for them. Where not, none of it is loaded. */
export default fp(
  async function tracing(app: FastifyInstance, { config }: { config: Config }) {
    app.decorate('traces', undefined as Traces | undefined)
    app.decorateRequest('span', undefined)
    if (!isTraced(config)) return

    const { openTraces } = await import('../traces/sdk.ts')
    const log: FastifyBaseLogger = app.log
    const { traces, close } = openTraces(config, (problem, message) => log.warn(problem, message))
    app.traces = traces
    app.addHook('onClose', close)

    app.addHook('onRequest', (request, _reply, done) => {
      const { url, config } = request.routeOptions
      // Probes: as in the log.
      if (config?.quiet === true) return done()
      const { method, headers, httpVersion } = request.raw
      const span = traces.startRequest({ method: method ?? '', headers, httpVersion, route: url })
      request.span = span
      request.traceId = span.spanContext().traceId
      request.spanId = span.spanContext().spanId
      // The record tells where it came from (CloudEvents, distributed tracing extension): the caller's trace stays in it,
      // and ours takes the place only of none, and only if there is a span to be found by it.
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
  { name: 'tracing', dependencies: ['requests'] },
)

declare module 'fastify' {
  interface FastifyInstance {
    /** Undefined where nothing is traced. */
    traces: Traces | undefined
  }
  interface FastifyRequest {
    span: RequestSpan | undefined
  }
}

import { AsyncLocalStorage } from 'node:async_hooks'
import type { IncomingHttpHeaders } from 'node:http'
import {
  type Context,
  defaultTextMapGetter,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from '@opentelemetry/api'
import { W3CTraceContextPropagator } from '@opentelemetry/core'
import {
  ATTR_ERROR_TYPE,
  ATTR_HTTP_REQUEST_METHOD,
  ATTR_HTTP_RESPONSE_STATUS_CODE,
  ATTR_HTTP_ROUTE,
  ATTR_NETWORK_PROTOCOL_VERSION,
  ATTR_SERVER_ADDRESS,
  ATTR_SERVER_PORT,
  ATTR_URL_PATH,
  ATTR_URL_SCHEME,
} from '@opentelemetry/semantic-conventions'
import type { Query } from '../../postgres/connect.ts'
import { describeQuery } from './query.ts'

/** What is known of a request when its span starts. */
interface RequestStart {
  method: string
  headers: IncomingHttpHeaders
  httpVersion: string
  /** The template of the path; undefined if no route matches. */
  route: string | undefined
}

/** What is known when the span ends. */
interface RequestEnd {
  status: number
  /** The code of the problem document, if the response is one. */
  code: string | undefined
}

/** All other methods are _OTHER (HTTP semantic conventions, http.request.method). */
const METHODS: ReadonlySet<string> = new Set([
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'PATCH',
  'DELETE',
  'OPTIONS',
  'CONNECT',
  'TRACE',
])

/**
 * The spans of this program, following OpenTelemetry's semantic conventions for HTTP and databases: requests (SERVER), flushes
 * (INTERNAL) and statements (CLIENT). Like the log, spans contain no payload, no record's id and no key.
 *
 * A flush serves many requests. It belongs to the trace of the first sampled one and is linked to all sampled ones; the others
 * are linked to it. So each of these traces leads to the transaction.
 */
export class Traces {
  readonly #tracer: Tracer
  readonly #propagator = new W3CTraceContextPropagator()
  /** The span that statements, and rows that are handed to the writer, belong to. */
  readonly #current = new AsyncLocalStorage<Span | undefined>()

  constructor(tracer: Tracer) {
    this.#tracer = tracer
  }

  /** Continues the client's trace if it sent one. Its sampled flag decides, unless OTEL_TRACES_SAMPLER overrides it. */
  startRequest({ method, headers, httpVersion, route }: RequestStart): Span {
    const parent = this.#propagator.extract(ROOT_CONTEXT, headers, defaultTextMapGetter)
    const known = METHODS.has(method)
    const verb = known ? method : 'HTTP'
    const name = route === undefined ? verb : `${verb} ${route}`
    const attributes = {
      [ATTR_HTTP_REQUEST_METHOD]: known ? method : '_OTHER',
      [ATTR_URL_SCHEME]: 'http',
      // The template instead of the path, which contains ids. A path without a route may contain anything.
      [ATTR_URL_PATH]: route ?? 'REDACTED',
      [ATTR_HTTP_ROUTE]: route,
      [ATTR_NETWORK_PROTOCOL_VERSION]: httpVersion,
      ...addressOf(headers.host),
    }
    return this.#tracer.startSpan(name, { kind: SpanKind.SERVER, attributes }, parent)
  }

  endRequest(span: Span, { status, code }: RequestEnd): void {
    span.setAttribute(ATTR_HTTP_RESPONSE_STATUS_CODE, status)
    if (code !== undefined) span.setAttribute('sluice.problem.code', code)
    if (status >= 500) {
      span.setAttribute(ATTR_ERROR_TYPE, code ?? String(status))
      span.setStatus({ code: SpanStatusCode.ERROR })
    }
    span.end()
  }

  /** Runs work in the context of this span. Asynchronous work that it starts has the same context. */
  runIn(span: Span, work: () => void): void {
    this.#current.run(span, work)
  }

  /** The span of the request in whose context this runs. */
  current(): Span | undefined {
    return this.#current.getStore()
  }

  /** Runs the work of a flush that serves these requests, in a span of its own if one of them is sampled. */
  flush(requests: readonly (Span | undefined)[], rows: number, work: () => Promise<void>): Promise<void> {
    const [first, ...others] = new Set(requests.filter((span) => span?.isRecording() === true) as Span[])
    if (first === undefined) return this.#current.run(undefined, work)
    const span = this.#tracer.startSpan(
      'flush',
      {
        links: [first, ...others].map((each) => ({ context: each.spanContext() })),
        attributes: { 'sluice.flush.requests': requests.length, 'sluice.flush.rows': rows },
      },
      contextOf(first),
    )
    for (const each of others) each.addLink({ context: span.spanContext() })
    return this.#current.run(span, work).finally(() => span.end())
  }

  /** Adds the span of a statement that has just ended. Statements outside of requests and flushes have none. */
  noteQuery(query: Query): void {
    const parent = this.#current.getStore()
    if (parent?.isRecording() !== true) return
    const { name, attributes } = describeQuery(query)
    const end = performance.timeOrigin + performance.now()
    const span = this.#tracer.startSpan(
      name,
      { kind: SpanKind.CLIENT, attributes, startTime: end - query.milliseconds },
      contextOf(parent),
    )
    // Without the error message, because it quotes values.
    if (query.error !== undefined) span.setStatus({ code: SpanStatusCode.ERROR })
    span.end(end)
  }
}

const contextOf = (span: Span): Context => trace.setSpan(ROOT_CONTEXT, span)

function addressOf(host: string | undefined): Record<string, string | number> {
  const url = URL.parse(`http://${host}`)
  if (host === undefined || url === null) return {}
  return { [ATTR_SERVER_ADDRESS]: url.hostname, [ATTR_SERVER_PORT]: Number(url.port || 80) }
}

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
import type { Query } from '../data/connect.ts'
import { describeQuery } from './query.ts'

/** What a span of a request begins with. */
export interface RequestStart {
  method: string
  headers: IncomingHttpHeaders
  httpVersion: string
  /** The template of its path; undefined where nothing is. */
  route: string | undefined
}

/** What it ends with. */
export interface RequestEnd {
  status: number
  /** The code of its problem. */
  code: string | undefined
}

/** Any other is _OTHER (HTTP semantic conventions, http.request.method). */
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
 * The spans of this program, by OpenTelemetry's semantic conventions for HTTP and databases: of a request (SERVER), of a
 * flush (INTERNAL), of a statement (CLIENT). Nothing of a payload, an id or a key gets into one, as in the log.
 *
 * A flush serves many requests. It belongs to the trace of the first of them that is sampled, is linked to all that are,
 * and the others are linked to it: from whichever trace one begins, the way leads to the transaction.
 */
export class Traces {
  readonly #tracer: Tracer
  readonly #propagator = new W3CTraceContextPropagator()
  /** What statements, and the rows that are handed to the writer, belong to. */
  readonly #current = new AsyncLocalStorage<Span | undefined>()

  constructor(tracer: Tracer) {
    this.#tracer = tracer
  }

  /** A caller's trace is continued, where it sent one; its sampled flag decides, unless OTEL_TRACES_SAMPLER says else. */
  startRequest({ method, headers, httpVersion, route }: RequestStart): Span {
    const parent = this.#propagator.extract(ROOT_CONTEXT, headers, defaultTextMapGetter)
    const known = METHODS.has(method)
    const verb = known ? method : 'HTTP'
    const name = route === undefined ? verb : `${verb} ${route}`
    const attributes = {
      [ATTR_HTTP_REQUEST_METHOD]: known ? method : '_OTHER',
      [ATTR_URL_SCHEME]: 'http',
      // The template for the path: that holds ids. What is at no route may hold anything.
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

  /** Runs what belongs to this request, and all that it brings about. */
  runIn(span: Span, work: () => void): void {
    this.#current.run(span, work)
  }

  /** The span of the request that is at work here. */
  current(): Span | undefined {
    return this.#current.getStore()
  }

  /** Runs the work of a flush that serves these requests. */
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

  /** A statement that has just ended. Those that serve no request and no flush, such as the look for new keys, have none. */
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
    // Without the message, which quotes values.
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

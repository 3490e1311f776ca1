import { randomUUID } from 'node:crypto'
import type { Socket } from 'node:net'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { before } from '../lib/before.ts'
import { waitForTurn } from '../lib/turns.ts'
import { classifyFailure, sqlstateOf } from '../postgres/sqlstate.ts'
import { type Fault, Problem, type ProblemCode } from '../problems.ts'

const MEDIA_TYPE = 'application/problem+json'
const API = 'The API is described at /openapi.json.'

/** Renders every error as a problem document: those of Sluice, Fastify's, the driver's, and requests that match no route. */
export default fp(
  async function problems(app: FastifyInstance, { hint = API }: { hint?: string }) {
    const notFound = ({ url }: FastifyRequest) =>
      new Problem('not_found', `The path ${url.split('?')[0]} does not exist. ${hint}`)
    app.setErrorHandler((error: FastifyError, request, reply) => {
      // Fastify refuses a malformed Content-Type before it looks for a route.
      sendProblem(request.is404 ? notFound(request) : toProblem(error, request.method), request, reply)
    })
    app.setNotFoundHandler((request, reply) => sendProblem(notFound(request), request, reply))
    refuseOtherMethods(app)
  },
  { dependencies: ['log-throttle', 'bodies'] },
)

export function sendProblem(problem: Problem, request: FastifyRequest, reply: FastifyReply): void {
  request.problemCode = problem.code
  request.isLogged = request.server.admitToLog(problem.code)
  if (problem.status >= 500 && request.isLogged) {
    request.log[problem.code === 'internal_error' ? 'error' : 'warn'](
      {
        requestId: request.id,
        traceId: request.traceId,
        spanId: request.spanId,
        code: problem.code,
        err: problem.cause,
      },
      problem.message,
    )
  }
  request.server.discardBody(request.raw, reply.raw)
  request.server.pauseWithoutKey?.(request, reply)
  // The client may or may not send the body now: what arrives next could be the body or another request.
  if (request.headers.expect !== undefined) reply.header('connection', 'close')
  const instance = before(request.url, '?')
  const document = JSON.stringify(problem.toDocument(instance, request.id))
  // With the charset, because Fastify adds it only to text types.
  reply.code(problem.status).headers(problem.headers).type(`${MEDIA_TYPE}; charset=utf-8`)
  if (document.length < LARGE) void reply.send(document)
  // As bytes: a string with a character outside of Latin-1 takes twice the memory while it waits behind another response.
  else void waitForTurn(request.key?.id ?? '').then(() => reply.send(Buffer.from(document)))
}

/** In characters. The errors of a batch can be as long as the batch: such a document is serialized in one turn and sent in another. */
const LARGE = 65_536

/** Fastify's own errors, by their stable codes (Fastify reference, "Errors"). */
const FASTIFY_ERRORS: Record<string, [ProblemCode, string]> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: [
    'unsupported_media_type',
    'The Content-Type is missing or not supported. Use application/json.',
  ],
  FST_ERR_BAD_URL: ['invalid_request', 'The path is not valid percent-encoded UTF-8.'],
  FST_ERR_MAX_PARAM_LENGTH: ['invalid_request', 'A part of the path is too long.'],
}

/** @param method of the request: if it may write, the outcome depends on the failure */
export function toProblem(error: FastifyError, method = 'GET'): Problem {
  if (error instanceof Problem) return error
  if (error.validation !== undefined) return invalidQuery(error)
  const known = FASTIFY_ERRORS[error.code]
  if (known !== undefined) return new Problem(known[0], known[1])
  if (error.statusCode !== undefined && error.statusCode < 500) return new Problem('invalid_request', error.message)

  const { kind, written } = classifyFailure(error)
  const outcome = method === 'GET' || method === 'HEAD' || written === 'no' ? 'not_written' : 'unknown'
  if (sqlstateOf(error) === '57014') {
    const hint = method === 'GET' || method === 'HEAD' ? 'Use a narrower range or fewer filters.' : 'Try again later.'
    const detail = `The query was cancelled, most likely because it took longer than READ_TIMEOUT_SECONDS. ${hint}`
    return new Problem('query_timeout', detail, { outcome, cause: error })
  }
  if (kind === 'transient') {
    return new Problem('database_unavailable', 'The database is unavailable. Try again later.', {
      outcome,
      cause: error,
    })
  }
  return new Problem('internal_error', 'This is a bug in Sluice. The log has the reason under this requestId.', {
    outcome,
    cause: error,
  })
}

function invalidQuery(error: FastifyError): Problem {
  const allowed = new Map<string, unknown[]>()
  const errors: Fault[] = []
  for (const { instancePath, params, message, keyword } of error.validation ?? []) {
    const name = instancePath.slice(1) || String(params?.additionalProperty ?? params?.missingProperty ?? '')
    // A parameter with fixed values fails once for each value (`const`), and then once as a whole (`anyOf`).
    if (keyword === 'const') allowed.set(name, [...(allowed.get(name) ?? []), params.allowedValue])
    else {
      let detail = `${name} ${message}.`
      if (keyword === 'additionalProperties') detail = `The parameter ${name} does not exist.`
      if (keyword === 'anyOf') detail = `${name} must be one of ${allowed.get(name)?.join(', ')}.`
      errors.push({ pointer: name, code: 'invalid_query', detail })
    }
  }
  return new Problem('invalid_query', errors[0]?.detail ?? error.message, { errors })
}

/** A wrong method on an existing path gets 405 and a list of the allowed ones (RFC 9110, section 15.5.6). */
function refuseOtherMethods(app: FastifyInstance): void {
  const methods = new Map<string, Set<string>>()
  app.addHook('onRoute', ({ url, method }) => {
    const known = methods.get(url) ?? methods.set(url, new Set()).get(url)
    for (const one of [method].flat()) known?.add(one)
  })
  app.decorate('refuseOtherMethods', () => {
    for (const [url, known] of [...methods]) {
      const allow = [...known].sort().join(', ')
      app.route({
        url,
        method: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'].filter((method) => !known.has(method)),
        schema: { hide: true },
        // In onRequest, before any body is read.
        onRequest: () => {
          throw new Problem('method_not_allowed', `Allowed methods: ${allow}.`, { headers: { allow } })
        },
        handler: () => undefined,
      })
    }
  })
}

/** Errors of Node's HTTP parser, each with its reason phrase. */
const CLIENT_ERRORS: Record<string, [ProblemCode, string, string]> = {
  HPE_HEADER_OVERFLOW: ['headers_too_large', 'The headers are too large.', 'Request Header Fields Too Large'],
  ERR_HTTP_REQUEST_TIMEOUT: ['request_timeout', 'The headers arrived too slowly.', 'Request Timeout'],
}
const NOT_HTTP: [ProblemCode, string, string] = ['invalid_request', 'The request is not valid HTTP.', 'Bad Request']

/** A request that is not valid HTTP reaches no route: the response is written to the socket. */
export function onClientError(app: FastifyInstance, error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable || app.owesResponse(socket)) return void socket.destroy()
  const [code, detail, reason] = CLIENT_ERRORS[error.code ?? ''] ?? NOT_HTTP
  const problem = new Problem(code, detail)
  const requestId = randomUUID()
  if (app.admitToLog(code)) app.log.info({ requestId, status: problem.status, code }, 'request')
  const body = JSON.stringify(problem.toDocument('', requestId))
  socket.end(
    `HTTP/1.1 ${problem.status} ${reason}\r\nContent-Type: ${MEDIA_TYPE}\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  )
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Call it after all routes are registered. */
    refuseOtherMethods(): void
  }
  interface FastifyRequest {
    /** For the log. */
    problemCode: ProblemCode | undefined
    /** Whether the request gets its line in the log. In a flood, refusals are only counted: see log-throttle.ts. */
    isLogged: boolean
  }
}

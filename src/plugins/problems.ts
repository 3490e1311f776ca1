import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { publicPath } from '../lib/path-prefix.ts'
import { waitForTurn } from '../lib/turns.ts'
import { classifyFailure, sqlstateOf } from '../postgres/sqlstate.ts'
import { PROBLEMS, Problem, type ProblemCode } from '../problems.ts'
import { invalidQuery } from './problems/invalid-query.ts'

/** With the charset, because Fastify adds it only to text types. */
export const PROBLEM_TYPE = 'application/problem+json; charset=utf-8'

/** Renders every error as a problem document: those of Sluice, Fastify's and the driver's. */
export default fp(
  async function problems(app: FastifyInstance) {
    app.setErrorHandler((error: FastifyError, request, reply) => {
      // Fastify refuses a malformed Content-Type before it looks for a route.
      const isUnmatched = request.is404 && !(error instanceof Problem)
      sendProblem(isUnmatched ? app.routeNotFound(request) : toProblem(error, request.method), request, reply)
    })
  },
  { dependencies: ['log-throttle', 'bodies', 'unmatched'] },
)

export function sendProblem(problem: Problem, request: FastifyRequest, reply: FastifyReply): void {
  request.problemCode = problem.code
  request.isLogged = request.server.admitToLog(problem.code)
  // 501 and 505 are mistakes of clients.
  if (problem.status >= 500 && PROBLEMS[problem.code].retryable && request.isLogged) {
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
  const instance = publicPath(request.server.pathPrefix, request.originalUrl)
  const document = JSON.stringify(problem.toDocument(instance, request.id))
  reply.code(problem.status).headers(problem.headers).header('x-content-type-options', 'nosniff').type(PROBLEM_TYPE)
  if (document.length < LARGE) void reply.send(document)
  // As bytes: a string with a character outside of Latin-1 takes twice the memory while it waits behind another response.
  else void waitForTurn(request.key?.id ?? '').then(() => reply.send(Buffer.from(document)))
}

/** In characters. The errors of a batch can be as long as the batch: such a document is serialized in one turn and sent in another. */
const LARGE = 65_536

/** Fastify's own errors, by their stable codes (Fastify reference, "Errors"). */
const FASTIFY_ERRORS: Record<string, [ProblemCode, string, headers?: Record<string, string>]> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: [
    'unsupported_media_type',
    'The Content-Type is missing or not supported. Use application/json.',
    { accept: 'application/json' },
  ],
  FST_ERR_BAD_URL: ['invalid_request', 'The path is not valid percent-encoded UTF-8. Write % as %25.'],
  FST_ERR_MAX_PARAM_LENGTH: ['uri_too_long', 'A part of the path is longer than any source or id can be.'],
}

/** @param method of the request: if it may write, the outcome depends on the failure */
export function toProblem(error: FastifyError, method = 'GET'): Problem {
  if (error instanceof Problem) return error
  if (error.validation !== undefined) return invalidQuery(error)
  const known = FASTIFY_ERRORS[error.code]
  if (known !== undefined) return new Problem(known[0], known[1], { headers: known[2] ?? {} })
  if (error.statusCode !== undefined && error.statusCode < 500) return new Problem('invalid_request', error.message)

  const { kind, written } = classifyFailure(error)
  const outcome = method === 'GET' || method === 'HEAD' || written === 'no' ? 'not_written' : 'unknown'
  if (sqlstateOf(error) === '57014') {
    const hint =
      method === 'GET' || method === 'HEAD'
        ? 'If it is a list, add a filter, such as a source, a type or a range of times, and leave out count=true.'
        : 'Try again later.'
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

declare module 'fastify' {
  interface FastifyRequest {
    /** For the log. */
    problemCode: ProblemCode | undefined
    /** Whether the request gets its line in the log. In a flood, refusals are only counted: see log-throttle.ts. */
    isLogged: boolean
  }
}

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { parseOrigins } from '../lib/origins.ts'

/** All headers of responses that a page may want to read, besides those that every page can read. */
const EXPOSED = [
  'Accept',
  'Accept-Post',
  'Allow',
  'Content-Disposition',
  'Content-Encoding',
  'ETag',
  'Link',
  'Location',
  'Preference-Applied',
  'RateLimit',
  'RateLimit-Policy',
  'Retry-After',
  'Stream-Cursor',
  'Stream-Next-Offset',
  'Stream-Up-To-Date',
  'Vary',
  'WWW-Authenticate',
  'X-Request-Id',
].join(', ')

/** In seconds. Browsers ask again after two hours at most. */
const MAX_AGE = '7200'

/**
 * Lets pages from the origins in CORS_ORIGINS call the API from a browser (https://fetch.spec.whatwg.org/#http-cors-protocol). Keys
 * are in a header, so credentials of the browser, such as cookies, are not needed and not allowed.
 *
 * The package @fastify/cors treats every OPTIONS request as a preflight, or rejects all others: OPTIONS is also the handshake of
 * CloudEvents webhooks. Its hooks do not reach what Node.js's parser and the router refuse.
 */
export default fp(
  async function cors(app: FastifyInstance) {
    if (app.config.CORS_ORIGINS === undefined) return
    const origins = parseOrigins(app.config.CORS_ORIGINS)

    app.decorate('corsHeaders', (origin) => {
      const allowed = origins === '*' ? '*' : origins.has(origin ?? '') ? origin : undefined
      return {
        ...(origins === '*' ? {} : { vary: 'origin' }),
        ...(allowed && { 'access-control-allow-origin': allowed, 'access-control-expose-headers': EXPOSED }),
      }
    })

    app.decorate('answerPreflight', (request, reply) => {
      if (!isPreflight(request)) return false
      allowRequested(request, reply)
      return true
    })

    // Before the key is checked: a preflight has none.
    app.addHook('onRequest', (request, reply, done) => {
      if (!app.answerPreflight?.(request, reply)) done()
    })

    // On every response, whichever hook or handler sends it.
    app.addHook('onSend', (request, reply, _payload, done) => {
      const { vary, ...headers } = app.corsHeaders?.(request.headers.origin) ?? {}
      if (vary !== undefined) addVary(reply, vary)
      reply.headers(headers)
      done()
    })

    const isPreflight = ({ method, headers }: FastifyRequest) =>
      method === 'OPTIONS' &&
      Boolean(headers['access-control-request-method']) &&
      (origins === '*' ? headers.origin !== undefined : origins.has(headers.origin ?? ''))
  },
  { name: 'cors', dependencies: ['fair-turns'] },
)

/**
 * Allows whatever the browser asks for, on any path: the request itself is checked as every other one, and the page can then read
 * why it is refused. One case remains: Node.js's parser refuses a URL of more than 16 KiB before the method matters.
 */
function allowRequested({ headers }: FastifyRequest, reply: FastifyReply): void {
  const requested = headers['access-control-request-headers']
  reply.code(204).headers({
    'access-control-allow-methods': headers['access-control-request-method'],
    ...(requested !== undefined && { 'access-control-allow-headers': requested }),
    'access-control-max-age': MAX_AGE,
  })
  addVary(reply, 'access-control-request-method, access-control-request-headers')
  reply.send()
}

function addVary(reply: FastifyReply, names: string): void {
  const others = reply.getHeader('vary')
  reply.header('vary', others === undefined ? names : `${others}, ${names}`)
}

declare module 'fastify' {
  interface FastifyInstance {
    /** For a response that no hook sees. Absent without CORS_ORIGINS. @param origin the header of the request */
    corsHeaders?: (origin: string | undefined) => Record<string, string>
    /** Sends the response to a preflight. Absent without CORS_ORIGINS. @returns false if the request is something else */
    answerPreflight?: (request: FastifyRequest, reply: FastifyReply) => boolean
  }
}

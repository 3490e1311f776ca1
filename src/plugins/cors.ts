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
  'Link',
  'Location',
  'Preference-Applied',
  'RateLimit',
  'RateLimit-Policy',
  'Retry-After',
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
 * The package @fastify/cors takes every OPTIONS request for a preflight, or refuses those that are none: OPTIONS is also the handshake
 * of CloudEvents webhooks. Its hooks do not reach what Node.js's parser and the router refuse.
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

    // Before the key is checked: a preflight has none.
    app.addHook('onRequest', (request, reply, done) => {
      if (isPreflight(request)) allowRequested(request, reply)
      else done()
    })

    // On every response, whichever hook or handler sends it.
    app.addHook('onSend', (request, reply, _payload, done) => {
      const { vary, ...headers } = app.corsHeaders?.(request.headers.origin) ?? {}
      if (vary !== undefined) {
        const others = reply.getHeader('vary')
        reply.header('vary', others === undefined ? vary : `${others}, ${vary}`)
      }
      reply.headers(headers)
      done()
    })

    const isPreflight = ({ method, headers }: FastifyRequest) =>
      method === 'OPTIONS' &&
      headers['access-control-request-method'] !== undefined &&
      (origins === '*' ? headers.origin !== undefined : origins.has(headers.origin ?? ''))
  },
  { name: 'cors', dependencies: ['fair-turns'] },
)

/**
 * Allows whatever the browser asks for, on any path: the request itself is checked as every other one, and the page can then read
 * why it is refused.
 */
function allowRequested({ headers }: FastifyRequest, reply: FastifyReply): void {
  const requested = headers['access-control-request-headers']
  reply.code(204).headers({
    'access-control-allow-methods': headers['access-control-request-method'],
    ...(requested !== undefined && { 'access-control-allow-headers': requested }),
    'access-control-max-age': MAX_AGE,
    vary: 'access-control-request-method, access-control-request-headers',
  })
  reply.send()
}

declare module 'fastify' {
  interface FastifyInstance {
    /** For a response that no hook sees. Absent without CORS_ORIGINS. @param origin the header of the request */
    corsHeaders?: (origin: string | undefined) => Record<string, string>
  }
}

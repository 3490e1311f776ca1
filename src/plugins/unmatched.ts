import { METHODS } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { before } from '../lib/before.ts'
import { publicPath } from '../lib/path-prefix.ts'
import { Problem } from '../problems.ts'
import { nearestPath } from './unmatched/nearest-path.ts'

/** What follows a CONNECT is not HTTP: see client-errors.ts. */
const ANSWERED = METHODS.filter((method) => method !== 'CONNECT').sort()

/** In characters. The whole path is in `instance`. */
const MAX_SHOWN = 200

const shown = (path: string) => (path.length > MAX_SHOWN ? `${path.slice(0, MAX_SHOWN)}…` : path)

const ONE_RECORD =
  'A record is at /v1/records/{source}/{id}, in which a slash within the source or the id is written as %2F.'

const METRICS = 'Metrics have a port of their own: METRICS_PORT, which is 9464 by default.'

/** What to do instead of another method, by the beginning of the path. */
const INSTEAD: [prefix: string, advice: string][] = [
  [
    '/v1/records',
    ' POST /v1/records stores records. Nothing changes them, and only the retention policies of "sluice maintain" delete them.',
  ],
  ['/v1/feed', ' The feed is read only: POST /v1/records stores records.'],
  [
    '/v1/consumers',
    ' PUT /v1/consumers/{name} creates a consumer or stores its offset, DELETE /v1/consumers/{name} deletes it.',
  ],
  ['/v1/keys', ' POST /v1/keys creates a key, DELETE /v1/keys/{id} revokes it. To change a key, create another one.'],
]

/**
 * Answers requests that match no route. On the path of a route, OPTIONS lists the allowed methods (RFC 9110, section 9.3.7) and
 * every other method gets 405 with the same list (section 15.5.6). On other paths, the response names the nearest one.
 */
export default fp(
  async function unmatched(app: FastifyInstance, { hint }: { hint?: string }) {
    for (const method of ANSWERED) if (!app.supportedMethods.includes(method)) app.addHttpMethod(method)
    const urls = new Set<string>()
    app.addHook('onRoute', ({ url }) => void urls.add(url))
    let paths: string[] = []
    let allMethods = ''
    /** Writes the prefix before every path in a text. */
    const below = (text: string) => text.replaceAll(/(?<= )\/(?=\w)/g, `${app.pathPrefix ?? ''}/`)

    app.decorate('routeNotFound', (request) => {
      const { url } = request
      const path = before(url, '?')
      const more = path === '/metrics' ? ` ${METRICS}` : path.startsWith('/v1/records/') ? ` ${ONE_RECORD}` : ''
      const detail = hint ?? below(`Did you mean ${nearestPath(path, paths)}?${more} /docs lists all paths.`)
      return new Problem(
        'route_not_found',
        `There is no path ${shown(publicPath(app.pathPrefix, request.originalUrl))}. ${detail}`,
      )
    })
    app.setNotFoundHandler((request: FastifyRequest, reply: FastifyReply) => {
      if (request.method === 'OPTIONS' && request.url === '*') return describeServer(reply)
      throw app.routeNotFound(request)
    })
    /** RFC 9112, section 3.2.4. The router takes `*` for `/`, if there is such a path. */
    const describeServer = (reply: FastifyReply) => void reply.code(204).header('allow', allMethods).send()

    app.decorate('answerOtherMethods', () => {
      paths = [...urls].filter((url) => url.startsWith('/v1/'))
      paths.push(...[...urls].filter((url) => !/^\/(?:v1|docs)\/|\*/.test(url)))
      const all = new Set<string>()
      for (const url of [...urls]) {
        const others = ANSWERED.filter((method) => !app.hasRoute({ url, method }))
        const allowed = ANSWERED.filter((method) => method === 'OPTIONS' || !others.includes(method))
        for (const method of allowed) all.add(method)
        answer(url, others, allowed.join(', '))
      }
      allMethods = ANSWERED.filter((method) => all.has(method)).join(', ')
    })

    function answer(url: string, others: string[], allow: string): void {
      app.route({
        url,
        method: others,
        schema: { hide: true },
        // In onRequest, before any body is read.
        onRequest: (request, reply) => {
          const { method, headers } = request
          if (method === 'OPTIONS' && request.url === '*') return describeServer(reply)
          // CloudEvents HTTP webhook 1.0.2, section 4.2: a path that takes no events refuses the handshake of a sender.
          const isHandshake = headers['webhook-request-origin'] !== undefined
          if (method === 'OPTIONS' && !isHandshake) return void reply.code(204).header('allow', allow).send()
          const [, instead = ''] = INSTEAD.find(([prefix]) => url.startsWith(prefix)) ?? []
          throw new Problem('method_not_allowed', `Allowed methods: ${allow}.${below(instead)}`, { headers: { allow } })
        },
        handler: () => undefined,
      })
    }
  },
  { name: 'unmatched' },
)

declare module 'fastify' {
  interface FastifyInstance {
    routeNotFound(request: FastifyRequest): Problem
    /** Call it after all routes are registered. */
    answerOtherMethods(): void
  }
}

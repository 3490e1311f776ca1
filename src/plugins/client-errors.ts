import { randomUUID } from 'node:crypto'
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { breakBody } from '../lib/broken-body.ts'
import { Problem } from '../problems.ts'
import { originOf, type ParseError, toParseProblem } from './client-errors/parse-problem.ts'
import { PROBLEM_TYPE } from './problems.ts'

/**
 * What Node.js refuses before Fastify sees it: bytes that are not valid HTTP, headers that are too large or too slow, and CONNECT.
 * The client gets a problem document. If it was in the middle of a body, the handler of that request gets the problem, and its
 * response is the usual one. Responses to earlier requests on the connection are sent first.
 */
export default fp(
  async function clientErrors(app: FastifyInstance) {
    /** The response to the last request of each connection. */
    const last = new WeakMap<Socket, ServerResponse<IncomingMessage>>()
    app.server.prependListener('request', ({ socket }: IncomingMessage, response) => void last.set(socket, response))

    app.decorate('onClientError', (error: ParseError, socket) => {
      if (error.code === 'ECONNRESET' || socket.destroyed || !socket.writable) return void socket.destroy()
      refuse(socket, toParseProblem(error), undefined, app.corsHeaders && originOf(error))
    })
    // Without a listener, Node.js closes the connection without a response.
    app.server.on('connect', ({ socket }: IncomingMessage) => {
      // Node.js has removed its own listener.
      socket.on('error', () => {})
      refuse(socket, new Problem('not_implemented', 'CONNECT is not supported: this server is not a proxy.'), 'CONNECT')
    })

    function refuse(socket: Socket, problem: Problem, method?: string, origin?: string): void {
      app.ignoreInput(socket)
      const response = last.get(socket)
      if (response === undefined || response.writableFinished) {
        // A body that nobody needs any more: its request already has its response.
        if (response?.req.complete === false) socket.destroySoon()
        else respond(socket, problem, method, origin)
      } else if (response.req.complete) {
        response.once('close', () => {
          if (socket.writable) refuse(socket, problem, method, origin)
        })
      } else {
        if (!response.headersSent) response.setHeader('connection', 'close')
        response.once('finish', () => socket.destroySoon())
        breakBody(response.req, problem)
      }
    }

    function respond(socket: Socket, problem: Problem, method?: string, origin?: string): void {
      const { code, status } = problem
      const requestId = randomUUID()
      if (app.admitToLog(code)) app.log.info({ requestId, method, route: null, status, code }, 'request')
      app.countRefusal?.(method ?? 'other', status)
      const body = JSON.stringify(problem.toDocument('', requestId))
      const head = [
        `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
        `Content-Type: ${PROBLEM_TYPE}`,
        `Content-Length: ${Buffer.byteLength(body)}`,
        `X-Request-Id: ${requestId}`,
        `Date: ${new Date().toUTCString()}`,
        'Connection: close',
        ...Object.entries(app.corsHeaders?.(origin) ?? {}).map(([name, value]) => `${name}: ${value}`),
      ]
      socket.write(`${head.join('\r\n')}\r\n\r\n${body}`)
      socket.destroySoon()
    }
  },
  { name: 'client-errors', dependencies: ['lingering', 'log-throttle'] },
)

declare module 'fastify' {
  interface FastifyInstance {
    /** For Fastify's clientErrorHandler. */
    onClientError(error: Error, socket: Socket): void
  }
}

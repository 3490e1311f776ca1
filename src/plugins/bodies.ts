import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { pauseReading } from '../lib/pause-reading.ts'
import { readInTurn } from '../lib/read-in-turn.ts'
import type { Discarding } from './lingering.ts'

/**
 * How many requests may wait behind another one on the same connection (HTTP pipelining). Node.js parses all that a
 * connection sends, up to 64 KiB at a time, and starts each request at once: thousands of small ones, at 5 to 10 KB of memory
 * each. Clients that pipeline keep 10 or 16 in flight. They resend those without a response (RFC 9112, section 9.3.2).
 */
export const MAX_PIPELINED = 32

/**
 * Only a route with `config: { readsBody: true }` reads, buffers and reserves memory for a body, in its handler. On all other
 * routes, and when such a route refuses the request, the body is dropped as it arrives, and the response does not wait for it.
 */
export default fp(
  async function bodies(app: FastifyInstance, limits: Discarding) {
    // Fastify's own parsers buffer up to 1 MiB of a body, even on paths without a route.
    app.removeAllContentTypeParsers()
    app.addContentTypeParser('*', (_request, _payload, done) => done(null))

    app.decorate('discardBody', (request, response) => discard(request, response, limits))
    app.server.prependListener(
      'request',
      limitPipeline((text) => app.log.warn(text)),
    )
    app.addHook('onRequest', (request, reply, done) => {
      // limitPipeline has closed the connection: the requests that were parsed after that do not start.
      if (request.raw.socket.destroyed) return void reply.hijack()
      if (request.routeOptions.config.readsBody !== true) app.discardBody(request.raw, reply.raw)
      done()
    })
  },
  { name: 'bodies', dependencies: ['lingering'] },
)

const discarded = new WeakSet<IncomingMessage>()

function discard(request: IncomingMessage, response: ServerResponse, { stallSeconds, discardBytes }: Discarding): void {
  const { 'content-length': length, 'transfer-encoding': coding } = request.headers
  if ((length === undefined && coding === undefined) || request.readableEnded || discarded.has(request)) return
  discarded.add(request)
  const { socket } = request
  const afterResponse = (act: () => void) => (response.writableFinished ? act() : void response.once('finish', act))
  let bytes = 0
  // The connection may break. Nothing needs the rest of the body.
  request.on('error', () => {})
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes <= discardBytes) {
      // Not synchronously: Node.js resumes reading in the next tick, and a pause before that has no effect (see lib/pause-reading.ts).
      return void queueMicrotask(() => request.complete || readInTurn(socket))
    }
    request.pause()
    // Otherwise, reading would continue after the connection is closed (plugins/lingering.ts).
    pauseReading(socket)
    afterResponse(() => socket.destroySoon())
  })
  afterResponse(() => {
    if (request.closed) return
    // This also closes the connection.
    const timer = setTimeout(() => request.destroy(), stallSeconds * 1000).unref()
    request.once('close', () => clearTimeout(timer))
  })
}

function limitPipeline(warn: (text: string) => void) {
  const waiting = new WeakMap<Socket, number>()
  return ({ socket }: IncomingMessage, response: ServerResponse): void => {
    // Nearly all requests have their connection to themselves: the response does not wait behind another one.
    if (response.socket !== null) return
    const count = (waiting.get(socket) ?? 0) + 1
    waiting.set(socket, count)
    response.once('close', () => waiting.set(socket, (waiting.get(socket) as number) - 1))
    if (count <= MAX_PIPELINED || socket.destroyed) return
    warn(`more than ${MAX_PIPELINED} requests waited on one connection: the connection is closed`)
    socket.destroy()
  }
}

declare module 'fastify' {
  interface FastifyInstance {
    /**
     * Reads and drops an unwanted body; the response does not wait for it. The connection can be used again. It is closed if
     * the body is larger than `discardBytes`, or still arrives STALL_SECONDS after the response.
     */
    discardBody(request: IncomingMessage, response: ServerResponse): void
  }
  interface FastifyContextConfig {
    /** The route's handler reads the body. */
    readsBody?: boolean
  }
}

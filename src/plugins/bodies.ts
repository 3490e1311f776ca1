import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { pauseReading, resumeReading } from '../lib/pause-reading.ts'

/**
 * How many bytes of an unwanted body are read and dropped: twice the default MAX_BATCH_BYTES. A sender with a wrong key can
 * finish sending and then read the response. If more arrives, the connection is closed.
 */
export const DISCARD_BYTES = 32 * 1024 * 1024

/**
 * How many connections may read a piece of an unwanted body, at most 64 KiB, in one iteration of the event loop. Without this
 * limit, libuv reads up to 2 MiB from each: 800 connections that send at full speed make an iteration take a second.
 */
export const MAX_PIECES = 8

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
  async function bodies(app: FastifyInstance, { stallSeconds }: { stallSeconds: number }) {
    // Fastify's own parsers buffer up to 1 MiB of a body, even on paths without a route.
    app.removeAllContentTypeParsers()
    app.addContentTypeParser('*', (_request, _payload, done) => done(null))

    app.decorate('discardBody', (request, response) => discard(request, response, stallSeconds * 1000))
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
  { name: 'bodies' },
)

const discarded = new WeakSet<IncomingMessage>()

function discard(request: IncomingMessage, response: ServerResponse, deadlineMs: number): void {
  const { 'content-length': length, 'transfer-encoding': coding } = request.headers
  if ((length === undefined && coding === undefined) || request.readableEnded || discarded.has(request)) return
  discarded.add(request)
  const afterResponse = (act: () => void) => (response.writableFinished ? act() : void response.once('finish', act))
  // This also closes the connection.
  const cutOff = () => void request.destroy()
  let bytes = 0
  // The connection may break. Nothing needs the rest of the body.
  request.on('error', () => {})
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    // Not synchronously: Node.js resumes reading in the next tick, and a pause before that has no effect (see lib/pause-reading.ts).
    if (bytes <= DISCARD_BYTES) return void queueMicrotask(() => waitToRead(request))
    request.pause()
    afterResponse(cutOff)
  })
  afterResponse(() => {
    if (request.closed) return
    const timer = setTimeout(cutOff, deadlineMs).unref()
    request.once('close', () => clearTimeout(timer))
  })
}

/** Connections that wait to be read again, in order. */
const waitingSockets = new Set<Socket>()

function waitToRead({ complete, socket }: IncomingMessage): void {
  if (complete || socket.destroyed || waitingSockets.has(socket)) return
  pauseReading(socket)
  if (waitingSockets.size === 0) setImmediate(resumeWaiting)
  waitingSockets.add(socket)
}

function resumeWaiting(): void {
  let pieces = 0
  for (const socket of waitingSockets) {
    if (++pieces > MAX_PIECES) break
    waitingSockets.delete(socket)
    resumeReading(socket)
  }
  if (waitingSockets.size > 0) setImmediate(resumeWaiting)
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
     * the body is larger than DISCARD_BYTES, or still arrives STALL_SECONDS after the response.
     */
    discardBody(request: IncomingMessage, response: ServerResponse): void
  }
  interface FastifyContextConfig {
    /** The route's handler reads the body. */
    readsBody?: boolean
  }
}

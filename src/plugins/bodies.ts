import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { holdReading, releaseReading } from '../lib/reading.ts'

/**
 * How much of an unwanted body is read and dropped. Twice the largest body there is by default: a sender with a wrong
 * key can finish sending, and then reads its answer. When more comes, the connection is closed.
 */
export const DISCARD_BYTES = 32 * 1024 * 1024

/**
 * Connections on which a piece of such a body, at most 64 KiB, is read in one turn of the event loop. Else libuv reads up to
 * 2 MiB on each of them: 800 connections that send as fast as they can make a turn that takes a second.
 */
export const MOST_PIECES = 8

/**
 * Requests that wait behind another one on the same connection (HTTP pipelining). Node.js parses all that a connection
 * sends, up to 64 KiB at a time, and begins each request at once: thousands of small ones, 5 to 10 KB each. Clients that
 * pipeline at all keep 10 or 16 of them in flight; they send again what got no answer (RFC 9112, section 9.3.2).
 */
export const MOST_PIPELINED = 32

/**
 * No body is read, buffered or reserved where none is expected. Only a route with `config: { readsBody: true }` reads
 * one, in its handler. Everywhere else, and when such a route refuses the request, the body is dropped as it comes, and
 * nobody waits for it.
 */
export default fp(
  async function bodies(app: FastifyInstance, { stallSeconds }: { stallSeconds: number }) {
    // Those of Fastify hold up to 1 MiB of a body in memory, also on paths where no route is.
    app.removeAllContentTypeParsers()
    app.addContentTypeParser('*', (_request, _payload, done) => done(null))

    app.decorate('discardBody', (request, response) => discard(request, response, stallSeconds * 1000))
    app.server.prependListener(
      'request',
      limitPipeline((text) => app.log.warn(text)),
    )
    app.addHook('onRequest', (request, reply, done) => {
      // Cut by limitPipeline. What was parsed after that is not begun.
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
  const afterAnswer = (act: () => void) => (response.writableFinished ? act() : void response.once('finish', act))
  // Takes the connection with it.
  const cut = () => void request.destroy()
  let bytes = 0
  // The connection may break: nobody waits for the rest.
  request.on('error', () => {})
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    // Not now: Node.js goes on to read in the next tick, after which nothing stops it.
    if (bytes <= DISCARD_BYTES) return void queueMicrotask(() => waitToRead(request))
    request.pause()
    afterAnswer(cut)
  })
  afterAnswer(() => {
    if (request.closed) return
    const timer = setTimeout(cut, deadlineMs).unref()
    request.once('close', () => clearTimeout(timer))
  })
}

/** Connections that wait to be read again, in order. */
const unread = new Set<Socket>()

function waitToRead({ complete, socket }: IncomingMessage): void {
  if (complete || socket.destroyed || unread.has(socket)) return
  holdReading(socket)
  if (unread.size === 0) setImmediate(readOn)
  unread.add(socket)
}

function readOn(): void {
  let pieces = 0
  for (const socket of unread) {
    if (++pieces > MOST_PIECES) break
    unread.delete(socket)
    releaseReading(socket)
  }
  if (unread.size > 0) setImmediate(readOn)
}

function limitPipeline(warn: (text: string) => void) {
  const waiting = new WeakMap<Socket, number>()
  return ({ socket }: IncomingMessage, response: ServerResponse): void => {
    // It has the connection for itself, as nearly all do: the answer is not queued behind another one.
    if (response.socket !== null) return
    const count = (waiting.get(socket) ?? 0) + 1
    waiting.set(socket, count)
    response.once('close', () => waiting.set(socket, (waiting.get(socket) as number) - 1))
    if (count <= MOST_PIPELINED || socket.destroyed) return
    warn(`more than ${MOST_PIPELINED} requests waited on one connection: it is closed`)
    socket.destroy()
  }
}

declare module 'fastify' {
  interface FastifyInstance {
    /**
     * Reads and drops a body that nobody wants, without making the answer wait. The connection can be used again. It is
     * closed when the body is larger than DISCARD_BYTES, or goes on for STALL_SECONDS after the answer.
     */
    discardBody(request: IncomingMessage, response: ServerResponse): void
  }
  interface FastifyContextConfig {
    /** The handler of the route reads the body. */
    readsBody?: boolean
  }
}

import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import { Problem } from '../lib/problems.ts'

/** For Fastify: a request's headers have a time as a whole. Its body has none, since streams of lines have no end. */
export const headerTimeouts = ({ STALL_SECONDS }: Config) => ({
  headersTimeout: STALL_SECONDS * 1000,
  connectionsCheckingInterval: Math.min(STALL_SECONDS * 1000, 5_000),
})

/**
 * Cuts off who stands still: a sender from whom no byte comes while we read, a reader who takes no byte of an answer. Who
 * waits for us, for the database, or until there is room for more lines, is left alone, however long it takes.
 */
export default fp(async function timeouts(app: FastifyInstance, { config }: { config: Config }) {
  const stallMs = config.STALL_SECONDS * 1000

  // Nothing has moved on the connection for that long.
  app.server.setTimeout(stallMs, (socket: Socket) => {
    // Between two requests Node sets the time to keepAliveTimeout, and leaves it to this listener to end it.
    if (socket.timeout !== stallMs) return void socket.destroy()
    if (socket.writableLength === 0) return void socket.setTimeout(stallMs)
    // Fastify calls no onResponse for it: this is its only line.
    app.log.warn(`a reader took no byte of an answer for ${config.STALL_SECONDS} s: the connection is closed`)
    socket.destroy()
  })

  app.decorate('watchUpload', (body) => {
    body.on('timeout', () => {
      const { socket } = body
      const { bytesRead } = socket
      // What came while the process itself stood still is read only now.
      setImmediate(() => {
        // What is there and not taken yet: the sender waits for us.
        if (body.complete || body.destroyed || body.readableLength > 0 || socket.bytesRead > bytesRead) return
        // To those who read the body, past `destroy`, which would take the connection with it, and so the answer.
        body.emit('error', stalled(config.STALL_SECONDS))
      })
    })
  })
})

const stalled = (seconds: number) =>
  new Problem('request_timeout', `No byte of the body came for ${seconds} s.`, { headers: { connection: 'close' } })

declare module 'fastify' {
  interface FastifyInstance {
    /** Ends a body with 408 when nothing of it comes any more. */
    watchUpload(body: IncomingMessage): void
  }
}

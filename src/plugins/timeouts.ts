import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import { Problem } from '../problems.ts'

/** For Fastify: all headers of a request together have a time limit. The body has none, because streams of lines have no end. */
export const headerTimeouts = ({ STALL_SECONDS }: Config) => ({
  headersTimeout: STALL_SECONDS * 1000,
  connectionsCheckingInterval: Math.min(STALL_SECONDS * 1000, 5_000),
})

/**
 * Minimum mean rate of a body that is kept in memory until it is complete. Without this limit, a sender that sends a byte now and
 * then could keep up to MAX_BATCH_BYTES reserved without end. Apache demands the same of every client by default
 * (mod_reqtimeout, `body=20,MinRate=500`), so hardly any sender is slower.
 */
const MIN_BYTES_PER_SECOND = 500
/** If a timer fires later than this, the process was busy or stopped. */
const LATE_TIMER_MS = 100

/**
 * Cuts off stalled clients: a sender that sends no byte while the server reads, and a reader that takes no byte of a response. A
 * client that waits for the server, for the database, or for memory for more lines is left alone, however long it takes.
 */
export default fp(async function timeouts(app: FastifyInstance) {
  const { config } = app
  const stallMs = config.STALL_SECONDS * 1000

  // Called when no byte has moved on the connection for this long.
  app.server.setTimeout(stallMs, (socket: Socket) => {
    // Between two requests, Node sets the timeout to keepAliveTimeout, and this listener has to close the connection.
    if (socket.timeout !== stallMs) return void socket.destroy()
    if (socket.writableLength === 0) return void socket.setTimeout(stallMs)
    // Fastify does not call onResponse, so this is the request's only line in the log.
    app.log.warn(`a client has not read from a response for ${config.STALL_SECONDS} s: the connection is closed`)
    // Reset, not closed: the kernel would keep what the client does not read.
    socket.resetAndDestroy()
  })

  app.decorate('watchUpload', (body) => {
    const { socket } = body
    body.on('timeout', () => {
      const { bytesRead } = socket
      afterReading(() => {
        // If received bytes have not been read yet, the sender waits for the server.
        if (body.readableLength > 0 || socket.bytesRead > bytesRead) return
        end(body, `No byte of the body arrived for ${config.STALL_SECONDS} s.`)
      })
    })
  })

  app.decorate('watchRate', (body) => {
    const { socket } = body
    const before = socket.bytesRead - body.readableLength
    let allowedUntil = performance.now() + stallMs
    let timer = setTimeout(check, stallMs)
    return () => clearTimeout(timer)

    function check(): void {
      afterReading(() => {
        if (body.complete || body.destroyed) return
        const earnedMs = ((socket.bytesRead - before) / MIN_BYTES_PER_SECOND) * 1000
        const leftMs = allowedUntil + earnedMs - performance.now()
        // The process was busy or stopped: the sender gets the time in which nothing was read.
        if (leftMs < -LATE_TIMER_MS) allowedUntil -= leftMs
        if (leftMs < 0 && leftMs >= -LATE_TIMER_MS) {
          end(
            body,
            `The body arrives more slowly than ${MIN_BYTES_PER_SECOND} bytes per second. Send it again, compressed or in smaller parts.`,
          )
        } else timer = setTimeout(check, Math.max(leftMs, 0) + 1)
      })
    }
  })
})

/** What arrived while the process was busy or stopped is read first. */
const afterReading = (act: () => void) => void setImmediate(act)

function end(body: IncomingMessage, detail: string): void {
  if (body.complete || body.destroyed) return
  // Emitted, because `destroy` would close the connection before the response is sent.
  body.emit('error', new Problem('request_timeout', detail, { headers: { connection: 'close' } }))
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Ends a body with 408 when no more of it arrives for STALL_SECONDS. */
    watchUpload(body: IncomingMessage): void
    /**
     * Ends a body with 408 when it arrives too slowly: it has STALL_SECONDS, and another second for each MIN_BYTES_PER_SECOND
     * that arrived. Only for a body that is read as fast as it arrives.
     * @returns a function to call when the body is complete
     */
    watchRate(body: IncomingMessage): () => void
  }
}

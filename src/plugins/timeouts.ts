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
 * What a body must reach on average that is held in memory until it is complete. Without a bound, a sender of a byte now and
 * then keeps up to MAX_BATCH_BYTES reserved for as long as it likes. It is what Apache asks of every client by default
 * (mod_reqtimeout, `body=20,MinRate=500`), so that hardly any sender is slower.
 */
const MIN_BYTES_PER_SECOND = 500
/** A timer that is later than this was late because the process was busy or stopped. */
const STOOD_STILL_MS = 100

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
    // Reset: in HTTP/1.0 the end of the connection is the end of the answer, and it would look complete.
    socket.resetAndDestroy()
  })

  app.decorate('watchUpload', (body) => {
    const { socket } = body
    body.on('timeout', () => {
      const { bytesRead } = socket
      afterReading(() => {
        // What is there and not taken yet: the sender waits for us.
        if (body.readableLength > 0 || socket.bytesRead > bytesRead) return
        end(body, `No byte of the body came for ${config.STALL_SECONDS} s.`)
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
        // The process itself stood still: give the sender the time in which nobody read what came.
        if (leftMs < -STOOD_STILL_MS) allowedUntil -= leftMs
        if (leftMs < 0 && leftMs >= -STOOD_STILL_MS) {
          end(body, `The body comes more slowly than ${MIN_BYTES_PER_SECOND} bytes per second.`)
        } else timer = setTimeout(check, Math.max(leftMs, 0) + 1)
      })
    }
  })
})

/** What came while the process itself stood still is read first. */
const afterReading = (act: () => void) => void setImmediate(act)

function end(body: IncomingMessage, detail: string): void {
  if (body.complete || body.destroyed) return
  // To those who read the body, past `destroy`, which would take the connection with it, and so the answer.
  body.emit('error', new Problem('request_timeout', detail, { headers: { connection: 'close' } }))
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Ends a body with 408 when nothing of it comes any more. */
    watchUpload(body: IncomingMessage): void
    /**
     * Ends a body with 408 when it comes too slowly: after STALL_SECONDS, each MIN_BYTES_PER_SECOND that came give it
     * another second. For a body that is always read as fast as it comes. Call what it returns when the body is there.
     */
    watchRate(body: IncomingMessage): () => void
  }
}

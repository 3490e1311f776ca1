import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Key } from '../access/key.ts'
import { MemoryBudget } from '../lib/memory-budget.ts'
import { MAX_PIPELINED } from './bodies.ts'

/** Memory of a request itself while it waits for its turn, as measured: it bounds the number of waiting requests. */
const REQUEST_BYTES = 10 * 1024

export interface Reading {
  /** Aborts when the response is complete or its reader has disconnected. */
  signal: AbortSignal
  /** Reserves memory for the response: call it with the bytes that it takes from now on. @throws Problem overloaded */
  reserve(bytes: number): void
}

/** Bounds the memory of responses that are being made or that their readers have not taken: any number of readers may stall. */
export default fp(async function responseMemory(app: FastifyInstance) {
  const { config } = app
  const budget = new MemoryBudget(
    config.UNREAD_MAX_BYTES,
    'The responses that their clients have not read yet use all the memory that they may use. Try again later.',
  )
  app.decorate('responseMemory', budget)
  // Node.js warns of a leak above ten listeners. Each response that waits on the connection has one.
  app.server.on('connection', (socket) => socket.setMaxListeners(2 * MAX_PIPELINED))
  app.decorateReply('onceTaken', function (release) {
    const { socket } = this.request.raw
    // The client has already disconnected: `close` will not fire, and the reservation would leak.
    if (this.raw.destroyed || socket.destroyed) return release()
    let isTaken = false
    const onClose = () => {
      // The connection closes its response within its own `close`, and then still calls the listener that is removed here.
      if (isTaken) return
      isTaken = true
      this.raw.off('close', onClose)
      socket.off('close', onClose)
      release()
    }
    this.raw.once('close', onClose)
    // A response that waits behind another one gets no `close` when its connection closes. The request's `close` is of no use:
    // it fires when the request has been read to its end, and one with a body, even an empty one, is read at once.
    socket.once('close', onClose)
  })
  app.decorateReply('beginReading', function () {
    const reserve = budget.openReservation((this.request.key as Key).id)
    const end = new AbortController()
    reserve(REQUEST_BYTES)
    this.onceTaken(() => {
      end.abort()
      reserve(0)
    })
    return {
      signal: end.signal,
      reserve: (bytes) => {
        end.signal.throwIfAborted()
        reserve(REQUEST_BYTES + bytes)
      },
    }
  })
})

declare module 'fastify' {
  interface FastifyInstance {
    responseMemory: MemoryBudget
  }
  interface FastifyReply {
    /**
     * Calls `release` once, when the client has taken the whole response or its connection is closed; at once if it is already
     * closed.
     */
    onceTaken(release: () => void): void
    /** Call it once, before anything is read. @throws Problem overloaded */
    beginReading(): Reading
  }
}

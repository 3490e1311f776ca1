import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import { Budget } from '../lib/budget.ts'
import type { Key } from '../operate/keys.ts'
import { MOST_PIPELINED } from './bodies.ts'

/** What a request costs by itself while it waits for its turn, so that their number is bounded as well. By measurement. */
const REQUEST_BYTES = 10 * 1024

export interface Reading {
  /** Aborts when the answer is complete, or its reader has left. */
  signal: AbortSignal
  /** Reserves the memory of the answer: called with the bytes that it takes from now on. @throws Problem overloaded */
  hold(bytes: number): void
}

/** Bounds the memory of answers that are made, or that their readers have not taken: any number of readers may stand still. */
export default fp(async function unread(app: FastifyInstance, { config }: { config: Config }) {
  const budget = new Budget(config.UNREAD_MAX_BYTES, 'Too many answers wait for their readers. Ask again later.')
  app.decorate('unread', budget)
  // Node.js takes more than ten listeners for a leak. There is one for each answer that waits on the connection.
  app.server.on('connection', (socket) => socket.setMaxListeners(2 * MOST_PIPELINED))
  app.decorateReply('onceTaken', function (giveBack) {
    const { socket } = this.request.raw
    // There is no further 'close' of a client that has left already.
    if (this.raw.destroyed || socket.destroyed) return giveBack()
    const onClose = () => {
      this.raw.off('close', onClose)
      socket.off('close', onClose)
      giveBack()
    }
    this.raw.once('close', onClose)
    // An answer that waits behind another one on its connection is not closed with it. Nor does the request tell: it is
    // closed as soon as it was read to its end, and one that has a body, even an empty one, is read at once.
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
      hold: (bytes) => {
        end.signal.throwIfAborted()
        reserve(REQUEST_BYTES + bytes)
      },
    }
  })
})

declare module 'fastify' {
  interface FastifyInstance {
    unread: Budget
  }
  interface FastifyReply {
    /**
     * Calls `giveBack` once, when the client has taken the whole answer or its connection is closed; at once if it is closed
     * already.
     */
    onceTaken(giveBack: () => void): void
    /** Called once, before anything is read. @throws Problem overloaded */
    beginReading(): Reading
  }
}

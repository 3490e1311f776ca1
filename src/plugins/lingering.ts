import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import { pauseReading, resumeReading } from '../lib/pause-reading.ts'
import { readInTurn } from '../lib/read-in-turn.ts'

/** Limits on what is read and discarded. */
export interface Discarding {
  /** How long it may take after the response. */
  stallSeconds: number
  /** How much is read. */
  discardBytes: number
}

/** A client that sends a whole file before it reads the response gets the response, unless the file is larger than this. */
export const DISCARD_BYTES = 128 * 1024 * 1024

/** A server that closes waits for its clients only this long. */
const CLOSING_MS = 2_000

export const discarding = ({ STALL_SECONDS, MAX_BATCH_BYTES }: Config): Discarding => ({
  stallSeconds: STALL_SECONDS,
  discardBytes: Math.max(DISCARD_BYTES, 2 * MAX_BATCH_BYTES),
})

/**
 * Closes connections in a way that does not lose the last response (RFC 9112, section 9.6). If a server closes a connection while
 * its client still sends, the client's system gets a reset, and many clients then report that instead of the response. So the
 * server ends only its own side, throws away what still arrives, and closes the connection when the client does.
 *
 * Node.js calls `destroySoon` after every response with `Connection: close`. The client, Fastify or Sluice may have asked for it.
 */
export default fp(
  async function lingeringClose(app: FastifyInstance, { stallSeconds, discardBytes }: Discarding) {
    app.server.on('connection', (socket: Socket) => {
      socket.destroySoon = () => linger(socket)
    })
    app.decorate('ignoreInput', (socket) => ignoreInput(socket, discardBytes))

    let limitMs = stallSeconds * 1000
    const lingering = new Set<Socket>()
    app.addHook('preClose', async () => {
      limitMs = Math.min(limitMs, CLOSING_MS)
      lingering.forEach(limit)
    })

    function linger(socket: Socket): void {
      if (lingering.has(socket) || socket.destroyed) return
      lingering.add(socket)
      ignoreInput(socket, discardBytes)
      socket.once('end', () => socket.destroy()).once('close', () => lingering.delete(socket))
      limit(socket)
      socket.end()
    }

    function limit(socket: Socket): void {
      const timer = setTimeout(() => socket.destroy(), limitMs).unref()
      socket.once('close', () => clearTimeout(timer))
    }
  },
  { name: 'lingering' },
)

const ignored = new WeakSet<Socket>()

function ignoreInput(socket: Socket, maxBytes: number): void {
  if (ignored.has(socket)) return
  ignored.add(socket)
  // Node's parser reads directly from the connection, until there is a listener for its data.
  socket.removeAllListeners('data')
  let bytes = 0
  socket.on('data', ({ length }) => {
    bytes += length
    if (bytes <= maxBytes) readInTurn(socket)
    else pauseReading(socket)
  })
  // The connection is read again, unless something else has paused it.
  pauseReading(socket)
  resumeReading(socket)
}

declare module 'fastify' {
  interface FastifyInstance {
    /** From now on, what arrives on the connection is read and thrown away: at most `discardBytes`. A second call does nothing. */
    ignoreInput(socket: Socket): void
  }
}

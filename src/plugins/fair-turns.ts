import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import { requestBytes } from '../ingest/memory.ts'
import { Budget } from '../lib/budget.ts'
import { RoundRobin } from '../lib/round-robin.ts'

/** Requests that are begun in one turn of the event loop while none waits here. Each takes about 0.1 ms. */
export const MOST_AT_ONCE = 128

/**
 * The same while some wait. Fewer, since libuv accepts only one connection in each turn: the longer the turns are, the longer
 * a new client waits in the backlog.
 */
const MOST_OF_WAITING = 8

/** The requests that wait here may hold this many times QUEUE_MAX_BYTES. By default one key can have 13,000 of them. */
const ROOM = 4

/**
 * After a refusal of pipelined requests nothing is read from their connection, for this time or up to twice as long. Turns do
 * not limit these refusals: with one second, those of 600 connections took half of the processor.
 */
const REST_MS = 5_000

interface Waiting {
  /** The id of its key, or '' without one. */
  owner: string
  socket: Socket
  bytes: number
  begin: () => void
}

/**
 * API keys take turns at the processor. Node.js begins all requests that have arrived, on all connections, in one turn of the
 * event loop. When one key sends 16,000 at once, the turn takes seconds, even if each of them is only refused; and a
 * request of another key needs several turns: to be accepted, read, written to the database, answered.
 *
 * Therefore a turn begins a limited number of requests. The others wait, in one queue for each key and one for all callers
 * without a key, and the queues take turns. Meanwhile nothing more is read from their connections. Probes do not wait.
 */
export default fp(
  async function fairTurns(app: FastifyInstance, { config }: { config: Config }) {
    const refusal = 'Too many requests arrive at once. Nothing was done; send the request again later.'
    const room = new Budget(ROOM * config.QUEUE_MAX_BYTES, refusal)
    const waiting = new RoundRobin<Waiting>()
    /** The reasons for which nothing is read from a connection: requests that wait, and refusals. */
    const holds = new WeakMap<Socket, number>()
    let begun = 0

    app.addHook('onRequest', (request, reply, done) => {
      if (request.routeOptions.config.probe === true || (waiting.isEmpty && hasPlace())) return done()
      const { socket, rawHeaders } = request.raw
      const owner = app.knownKey(request.headers.authorization)?.id ?? ''
      const bytes = requestBytes(rawHeaders)
      try {
        room.take(owner, bytes)
      } catch (error) {
        // Only where requests are pipelined: another connection may be that of a proxy, and have another key's request next.
        // After the answer: until then the body is read and dropped, whatever holds the connection.
        if (reply.raw.socket === null) reply.raw.once('finish', () => setImmediate(rest, socket))
        return done(error as Error)
      }
      hold(socket)
      // Bodies.ts may have closed the connection meanwhile.
      const begin = () => (socket.destroyed ? void reply.hijack() : done())
      waiting.push(owner, { owner, socket, bytes, begin })
    })

    function hasPlace(): boolean {
      if (begun === 0) setImmediate(startTurn)
      return ++begun <= MOST_AT_ONCE
    }

    function startTurn(): void {
      begun = 0
      let left = MOST_OF_WAITING
      for (const { owner, socket, bytes, begin } of waiting.take()) {
        room.give(owner, bytes)
        release(socket)
        begin()
        if (--left === 0) break
      }
      if (!waiting.isEmpty) setImmediate(startTurn)
    }

    function rest(socket: Socket): void {
      hold(socket)
      // Not all of them come back in the same turn.
      setTimeout(release, REST_MS * (1 + Math.random()), socket).unref()
    }

    // What Fastify's inject sends has no real socket.
    function hold(socket: Socket): void {
      socket.pause?.()
      holds.set(socket, (holds.get(socket) ?? 0) + 1)
    }

    function release(socket: Socket): void {
      const left = (holds.get(socket) as number) - 1
      holds.set(socket, left)
      if (left === 0) socket.resume?.()
    }
  },
  { name: 'fair-turns', dependencies: ['keys', 'bodies'] },
)

declare module 'fastify' {
  interface FastifyContextConfig {
    /** It is begun at once, however many requests wait. */
    probe?: boolean
  }
}

import type { IncomingHttpHeaders } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import { gatherChunks } from '../ingest/gather-chunks.ts'
import { requestBytes } from '../ingest/memory.ts'
import { Budget } from '../lib/budget.ts'
import { holdReading, releaseReading } from '../lib/reading.ts'
import { RoundRobin } from '../lib/round-robin.ts'

/** Requests that are begun in one turn of the event loop while no other waits here. Each takes about 0.1 ms. */
export const MOST_AT_ONCE = 128

/** Up to this number, requests of several turns are counted together: to notice the end of a turn costs a wake-up of the loop. */
export const UNTIL_COUNTED = 16

/**
 * Requests that are begun in one turn while others wait. Fewer, since libuv accepts only one connection in each turn: the longer the turns are, the longer
 * a new client waits in the backlog.
 */
const MOST_OF_WAITING = 8

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
 * without a key, and the queues take turns. Meanwhile nothing more is read from their connections. They may hold as much memory
 * as those that are begun. Beyond it they are refused. Connections of refused requests, and of callers without a valid key, wait
 * in the same way to be read again, one in a turn: each may bring 32 requests, all of which Node.js begins. Probes do not wait.
 */
export default fp(
  async function fairTurns(app: FastifyInstance, { config }: { config: Config }) {
    const refusal = 'Too many requests arrive at once. Nothing was done; send the request again later.'
    const room = new Budget(config.QUEUE_MAX_BYTES, refusal)
    const waiting = new RoundRobin<Waiting>()
    const refused = new RoundRobin<Socket>()
    /** The same, without an order. */
    const resting = new WeakSet<Socket>()
    let begun = 0
    let isScheduled = false

    app.addHook('onRequest', (request, reply, done) => {
      if (request.routeOptions.config.probe === true || (waiting.isEmpty && hasPlace())) return done()
      const { socket } = request.raw
      const owner = app.knownKey(request.headers.authorization)?.id ?? ''
      const bytes = requestBytes(request.raw.rawHeaders) + bodyBytes(request.headers)
      try {
        room.take(owner, bytes)
      } catch (error) {
        restAfter(owner, request, reply)
        return done(error as Error)
      }
      holdReading(socket)
      if (request.routeOptions.config.readsBody === true) gatherChunks(request.raw)
      // Bodies.ts may have closed the connection meanwhile.
      const begin = () => (socket.destroyed ? void reply.hijack() : done())
      waiting.push(owner, { owner, socket, bytes, begin })
      schedule()
    })

    // To read even what is refused takes time, such as 10 ms for 64 KiB in chunks of a byte.
    app.decorate('restIfRefused', (request, reply) => {
      if (request.key === undefined) restAfter('', request, reply)
    })

    function restAfter(owner: string, { raw: { socket } }: FastifyRequest, reply: FastifyReply): void {
      reply.raw.once('finish', () => setImmediate(rest, owner, socket))
    }

    function hasPlace(): boolean {
      if (++begun === UNTIL_COUNTED) schedule()
      return begun <= MOST_AT_ONCE
    }

    function schedule(): void {
      if (!isScheduled) setImmediate(startTurn)
      isScheduled = true
    }

    function startTurn(): void {
      isScheduled = false
      begun = 0
      forSome(MOST_OF_WAITING, waiting, ({ owner, socket, bytes, begin }) => {
        room.give(owner, bytes)
        // Released after it: what it holds for another reason goes on to be held.
        begin()
        releaseReading(socket)
      })
      forSome(1, refused, (socket) => {
        resting.delete(socket)
        releaseReading(socket)
      })
      if (!waiting.isEmpty || !refused.isEmpty) schedule()
    }

    function rest(owner: string, socket: Socket): void {
      if (resting.has(socket) || socket.destroyed) return
      resting.add(socket)
      holdReading(socket)
      refused.push(owner, socket)
      schedule()
    }
  },
  { name: 'fair-turns', dependencies: ['keys', 'bodies'] },
)

/** Node.js reads this much at once, so that it may have the beginning of a body before anybody can stop it. In bytes. */
const READ_BYTES = 64 * 1024

function bodyBytes({ 'content-length': length, 'transfer-encoding': coding }: IncomingHttpHeaders): number {
  return coding === undefined ? Math.min(Number(length ?? 0), READ_BYTES) : READ_BYTES
}

function forSome<T>(most: number, queue: RoundRobin<T>, act: (item: T) => void): void {
  let left = most
  for (const item of queue.take()) {
    act(item)
    if (--left === 0) return
  }
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Of an error that is about to be answered. Absent on the server of the metrics. */
    restIfRefused?: (request: FastifyRequest, reply: FastifyReply) => void
  }
  interface FastifyContextConfig {
    /** It is begun at once, however many requests wait. */
    probe?: boolean
  }
}

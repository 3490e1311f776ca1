import { AsyncLocalStorage } from 'node:async_hooks'
import type { IncomingHttpHeaders } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { requestBytes } from '../ingest/memory.ts'
import { gatherChunks } from '../lib/gather-chunks.ts'
import { MemoryBudget } from '../lib/memory-budget.ts'
import { pauseReading, resumeReading } from '../lib/pause-reading.ts'
import { RoundRobin } from '../lib/round-robin.ts'

/** How many requests may start in one iteration of the event loop while none waits here. Each takes about 0.1 ms. */
export const MAX_AT_ONCE = 128

/**
 * Below this number, the requests of several iterations are counted together, because noticing the end of an iteration costs
 * an extra wake-up of the loop.
 */
export const UNTIL_COUNTED = 16

/**
 * How many requests may start in one iteration while others wait. Fewer, because libuv accepts only one connection per
 * iteration: the longer an iteration takes, the longer new clients wait in the backlog.
 */
const MAX_STARTS_OF_WAITING = 8

interface QueuedStart {
  /** The id of the API key, or '' without one. */
  owner: string
  socket: Socket
  bytes: number
  start: () => void
}

/**
 * API keys take turns at the processor. Node.js starts all requests that have arrived, on all connections, in one iteration of
 * the event loop. If one key sends 16,000 at once, that iteration takes seconds, even if each request is only refused. A
 * request of another key needs several iterations: to be accepted, read, written to the database, and to get its response.
 *
 * Therefore an iteration starts a limited number of requests. The others wait, in one queue per key and one for all clients
 * without a key, and the queues take turns. Meanwhile nothing more is read from their connections. Waiting requests may hold as
 * much memory as started ones. Above that, they are refused. After a refusal here, and after an error response to a client
 * without a valid key, the connection waits in the same way until it is read again, one connection per iteration: each may
 * have 32 requests, and Node.js starts all of them. Probes do not wait.
 */
export default fp(
  async function fairTurns(app: FastifyInstance) {
    const { config } = app
    const refusal = 'Too many requests arrived at once. This one was not processed. Send it again later.'
    const room = new MemoryBudget(config.QUEUE_MAX_BYTES, refusal)
    const waiting = new RoundRobin<QueuedStart>()
    const resumeQueue = new RoundRobin<Socket>()
    /** The connections in that queue. */
    const paused = new WeakSet<Socket>()
    let started = 0
    let isScheduled = false

    app.addHook('onRequest', (request, reply, done) => {
      if (request.routeOptions.config.probe === true || (waiting.isEmpty && hasRoom())) return done()
      const { socket } = request.raw
      const owner = app.knownKey(request.headers.authorization)?.id ?? ''
      const bytes = requestBytes(request.raw.rawHeaders) + bodyBytes(request.headers)
      try {
        room.reserve(owner, bytes)
      } catch (error) {
        pauseAfterResponse(owner, request, reply)
        return done(error as Error)
      }
      pauseReading(socket)
      if (request.routeOptions.config.readsBody === true) gatherChunks(request.raw)
      // plugins/bodies.ts may have closed the connection meanwhile.
      // Bound to this request's context, which has its trace: the queue is served in the context of another request.
      const start = AsyncLocalStorage.bind(() => (socket.destroyed ? void reply.hijack() : done()))
      waiting.push(owner, { owner, socket, bytes, start })
      schedule()
    })

    // Even reading what is refused takes time, such as 10 ms for 64 KiB in chunks of one byte.
    app.decorate('pauseWithoutKey', (request, reply) => {
      if (request.key === undefined) pauseAfterResponse('', request, reply)
    })

    function pauseAfterResponse(owner: string, { raw: { socket } }: FastifyRequest, reply: FastifyReply): void {
      reply.raw.once('finish', () => setImmediate(pause, owner, socket))
    }

    function hasRoom(): boolean {
      if (++started === UNTIL_COUNTED) schedule()
      return started <= MAX_AT_ONCE
    }

    function schedule(): void {
      if (!isScheduled) setImmediate(startNext)
      isScheduled = true
    }

    function startNext(): void {
      isScheduled = false
      started = 0
      forSome(MAX_STARTS_OF_WAITING, waiting, ({ owner, socket, bytes, start }) => {
        room.release(owner, bytes)
        // Resumed only now: if `start` pauses the connection for another reason, it stays paused.
        start()
        resumeReading(socket)
      })
      forSome(1, resumeQueue, (socket) => {
        paused.delete(socket)
        resumeReading(socket)
      })
      if (!waiting.isEmpty || !resumeQueue.isEmpty) schedule()
    }

    function pause(owner: string, socket: Socket): void {
      if (paused.has(socket) || socket.destroyed) return
      paused.add(socket)
      pauseReading(socket)
      resumeQueue.push(owner, socket)
      schedule()
    }
  },
  { name: 'fair-turns', dependencies: ['keys', 'bodies'] },
)

/** In bytes. Node.js reads this much at once, so it may have the beginning of a body before its connection can be paused. */
const READ_BYTES = 64 * 1024

function bodyBytes({ 'content-length': length, 'transfer-encoding': coding }: IncomingHttpHeaders): number {
  return coding === undefined ? Math.min(Number(length ?? 0), READ_BYTES) : READ_BYTES
}

function forSome<T>(max: number, queue: RoundRobin<T>, act: (item: T) => void): void {
  let left = max
  for (const item of queue.take()) {
    act(item)
    if (--left === 0) return
  }
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Call it before an error response: it pauses the connection of a client without a valid key. Absent on the metrics server. */
    pauseWithoutKey?: (request: FastifyRequest, reply: FastifyReply) => void
  }
  interface FastifyContextConfig {
    /** Requests to this route start at once, however many others wait. */
    probe?: boolean
  }
}

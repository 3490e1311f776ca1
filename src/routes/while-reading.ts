import type { FastifyReply, FastifyRequest, RouteGenericInterface } from 'fastify'
import type { Reading } from '../plugins/response-memory.ts'

/**
 * Wraps a handler that reads: reserves its memory, and ends its waits when the client disconnects. In that case, it sends no
 * response.
 */
export function whileReading<Route extends RouteGenericInterface>(
  handler: (request: FastifyRequest<Route>, reply: FastifyReply, reading: Reading) => Promise<FastifyReply>,
) {
  return async (request: FastifyRequest<Route>, reply: FastifyReply): Promise<FastifyReply> => {
    const reading = reply.beginReading()
    try {
      return await handler(request, reply, reading)
    } catch (error) {
      if (reading.signal.aborted) return reply.hijack()
      throw error
    }
  }
}

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

/** Reading may have taken long, so the key is checked again. @throws Problem unauthorized, forbidden, source_forbidden */
export const checkKeyAgain = (request: FastifyRequest): void =>
  request.server.watchKey(request, 'read').throwIfAborted()

/**
 * Logs why a response breaks off while it is sent. Nothing else logs that: the status is already sent, and Fastify's own request
 * log is off (app.ts).
 */
export async function* logBreak<T>(
  chunks: AsyncIterable<T> | T[],
  { id, log }: FastifyRequest,
  what: string,
): AsyncGenerator<T> {
  try {
    yield* chunks
  } catch (err) {
    log.warn({ requestId: id, err }, what)
    throw err
  }
}

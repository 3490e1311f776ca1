import type { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Key } from '../access/key.ts'
import { type BodyLimits, readBody } from '../ingest/body.ts'
import { abandon, type Encoding, inflate, toBodyProblem } from '../ingest/inflate.ts'
import { requestBytes } from '../ingest/memory.ts'
import { brokenBy } from '../lib/broken-body.ts'

export type Reserve = (bytes?: number) => void

/**
 * Reserves memory for a request of the key: call the result with the bytes that the request holds beyond itself, or without an
 * argument to release all. @throws Problem overloaded
 */
export function openReservation(request: FastifyRequest): Reserve {
  const reserve = request.server.ingestMemory.openReservation((request.key as Key).id)
  const own = requestBytes(request.raw.rawHeaders)
  return (bytes) => reserve(bytes === undefined ? 0 : own + bytes)
}

/**
 * Reads a body as a whole, in bounded memory and time. Only for routes with `config: { readsBody: true }`.
 * @param encoding as its Content-Encoding says
 * @throws Problem what readBody throws; draining when the server shuts down; request_timeout when the sender stalls
 */
export async function receiveBody(
  request: FastifyRequest,
  reply: FastifyReply,
  encoding: Encoding | undefined,
  limits: BodyLimits,
  reserve: Reserve,
): Promise<Buffer> {
  const { raw, server } = request
  const declared = encoding === undefined ? Number(request.headers['content-length'] ?? 0) : 0
  const body = openBody(request, encoding)
  server.watchUpload(raw)
  const stopWatch = server.watchRate(raw)
  // Emitted, because `destroy` would close the connection before the response is sent.
  const unregister = server.endOnClose(raw, (why) => raw.complete || raw.emit('error', why))
  try {
    const content = readBody(body, declared, limits, reserve)
    sendContinue(request, reply)
    return await content
  } catch (error) {
    abandon(body)
    throw error
  } finally {
    stopWatch()
    unregister()
  }
}

/** @throws Problem if the body is already broken, or its sender has disconnected: a closed stream emits no further event */
export function openBody({ raw }: FastifyRequest, encoding: Encoding | undefined): Readable {
  const broken = brokenBy(raw)
  if (broken !== undefined) throw broken
  if (raw.destroyed) throw toBodyProblem(raw.errored)
  return inflate(raw, encoding)
}

/**
 * Sends 100 Continue to a sender that waits for it before it sends the body (RFC 9110, section 10.1.1). An HTTP/1.0 client does
 * not wait, and would take it for the response.
 */
export function sendContinue(request: FastifyRequest, reply: FastifyReply): void {
  if (request.headers.expect !== undefined && request.raw.httpVersionMinor > 0) reply.raw.writeContinue()
}

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'

/** For each connection that uses HTTP/1.0, to any server of this process: how many of its responses are not complete. */
const incomplete = new Map<Socket, number>()
process.on('exit', () => {
  for (const socket of incomplete.keys()) socket.destroy()
})

/**
 * In HTTP/1.0, a response without Content-Length ends where its connection ends (RFC 9112, section 6.3): half of an export would
 * look complete. nginx uses HTTP/1.0 by default. So whatever closes the connection of such a response before its end, here, in
 * Fastify or in Node.js, resets it. Only if the process is killed (SIGKILL) does the kernel close it normally.
 */
export default fp(async function incompleteResponses(app: FastifyInstance) {
  app.server.prependListener('request', ({ httpVersionMinor, socket }: IncomingMessage, response: ServerResponse) => {
    if (httpVersionMinor > 0) return
    const before = incomplete.get(socket)
    if (before === undefined) resetIfIncomplete(socket)
    incomplete.set(socket, (before ?? 0) + 1)
    response.once('finish', () => {
      const now = incomplete.get(socket)
      // The connection may be closed by now.
      if (now !== undefined) incomplete.set(socket, now - 1)
    })
  })
})

function resetIfIncomplete(socket: Socket): void {
  socket.destroy = (error) => {
    // The method of the class again, which resetAndDestroy calls too.
    Reflect.deleteProperty(socket, 'destroy')
    const isComplete = incomplete.get(socket) === 0
    incomplete.delete(socket)
    return isComplete ? socket.destroy(error) : socket.resetAndDestroy()
  }
  // When the client closes its half of the connection, Node.js closes the other half, also within a response. This listener
  // comes before that of Node.js: a connection that is being closed cannot be reset.
  socket.prependListener('end', () => incomplete.get(socket) !== 0 && socket.destroy())
}

import type { Socket } from 'node:net'

/** For each connection, how many `pauseReading` calls are not released yet. */
const holds = new WeakMap<Socket, number>()

const isHeld = (socket: Socket) => (holds.get(socket) ?? 0) > 0

/** Stops reading from a connection of Node's HTTP server until `resumeReading` was called as many times. */
export function pauseReading(socket: Socket): void {
  const count = holds.get(socket) ?? 0
  holds.set(socket, count + 1)
  // Requests from Fastify's inject have no real socket.
  if (count > 0 || socket.pause === undefined) return
  socket.pause()
  setImmediate(pauseAgain, socket)
}

/**
 * Node.js may already have scheduled a resume for the next tick, which reads despite the `pause` before it. After that, the
 * socket still counts as paused, so another `pause` does nothing. Hence this resumes it first.
 */
function pauseAgain(socket: Socket): void {
  if (!isHeld(socket)) return
  socket.resume()
  process.nextTick(() => {
    if (isHeld(socket)) socket.pause()
  })
}

/** Undoes one `pauseReading`. Reading continues after the last one. */
export function resumeReading(socket: Socket): void {
  const left = (holds.get(socket) as number) - 1
  holds.set(socket, left)
  if (left === 0) socket.resume?.()
}

import type { Socket } from 'node:net'

/** For each connection, how many `pauseReading` calls are not undone yet. */
const pauses = new WeakMap<Socket, number>()

const mustPause = (socket: Socket) => (pauses.get(socket) ?? 0) > 0

/** Stops reading from a connection of Node's HTTP server until `resumeReading` was called as many times. */
export function pauseReading(socket: Socket): void {
  const count = pauses.get(socket) ?? 0
  pauses.set(socket, count + 1)
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
  if (!mustPause(socket)) return
  socket.resume()
  process.nextTick(() => {
    if (mustPause(socket)) socket.pause()
  })
}

/** Undoes one `pauseReading`. Reading continues after the last one. */
export function resumeReading(socket: Socket): void {
  const left = (pauses.get(socket) as number) - 1
  pauses.set(socket, left)
  if (left === 0) socket.resume?.()
}

import type { Socket } from 'node:net'

/** For each connection, how many reasons there are to read nothing from it. */
const holds = new WeakMap<Socket, number>()

const isHeld = (socket: Socket) => (holds.get(socket) ?? 0) > 0

/** Reads nothing more from a connection of Node's HTTP server, until `releaseReading` has been called as often. */
export function holdReading(socket: Socket): void {
  const count = holds.get(socket) ?? 0
  holds.set(socket, count + 1)
  // What Fastify's inject sends has no real socket.
  if (count > 0 || socket.pause === undefined) return
  socket.pause()
  setImmediate(pauseAgain, socket)
}

/**
 * Amid a turn Node.js may be about to go on reading. It does so in the next tick, whatever `pause` did before; and from then on the
 * socket believes that it is paused, so that `pause` does nothing. Hence it is resumed first.
 */
function pauseAgain(socket: Socket): void {
  if (!isHeld(socket)) return
  socket.resume()
  process.nextTick(() => {
    if (isHeld(socket)) socket.pause()
  })
}

export function releaseReading(socket: Socket): void {
  const left = (holds.get(socket) as number) - 1
  holds.set(socket, left)
  if (left === 0) socket.resume?.()
}

import type { Socket } from 'node:net'
import { pauseReading, resumeReading } from './pause-reading.ts'

/**
 * How many connections may read a piece of what is thrown away, at most 64 KiB, in one iteration of the event loop. Without this
 * limit, libuv reads up to 2 MiB from each: 800 connections that send at full speed make an iteration take a second.
 */
export const MAX_PIECES = 8

/** Connections that wait to be read again, in order. */
const waitingSockets = new Set<Socket>()

/** Call it after a piece was read and thrown away: the next one is read when it is the connection's turn. */
export function readInTurn(socket: Socket): void {
  if (socket.destroyed || waitingSockets.has(socket)) return
  pauseReading(socket)
  if (waitingSockets.size === 0) setImmediate(resumeWaiting)
  waitingSockets.add(socket)
}

function resumeWaiting(): void {
  let pieces = 0
  for (const socket of waitingSockets) {
    if (++pieces > MAX_PIECES) break
    waitingSockets.delete(socket)
    resumeReading(socket)
  }
  if (waitingSockets.size > 0) setImmediate(resumeWaiting)
}

import type { IncomingMessage } from 'node:http'

const broken = new WeakMap<IncomingMessage, Error>()

/**
 * Ends a body with an error, which its current reader and every later one gets. Unlike `destroy`, it leaves the connection open
 * for the response.
 */
export function breakBody(body: IncomingMessage, error: Error): void {
  broken.set(body, error)
  if (body.listenerCount('error') > 0) body.emit('error', error)
}

/** Why the body is broken, if `breakBody` was called. */
export const brokenBy = (body: IncomingMessage): Error | undefined => broken.get(body)

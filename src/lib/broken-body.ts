import type { IncomingMessage } from 'node:http'

const broken = new WeakMap<IncomingMessage, Error>()

/**
 * Ends a body with an error, for whoever reads it now or begins to read it later. Unlike `destroy`, it leaves the connection open
 * for the response.
 */
export function breakBody(body: IncomingMessage, error: Error): void {
  broken.set(body, error)
  if (body.listenerCount('error') > 0) body.emit('error', error)
}

/** Why the body is broken, if `breakBody` was called. */
export const brokenBy = (body: IncomingMessage): Error | undefined => broken.get(body)

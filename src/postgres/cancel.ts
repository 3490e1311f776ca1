import type pg from 'pg'
import { sendCancel } from './pg-internals.ts'

/** How long PostgreSQL may take to accept the request. */
const REQUEST_MS = 3_000

/**
 * Asks PostgreSQL to cancel the statement that a client is running. The request uses a separate connection and needs no login. A
 * pooler forwards it.
 * https://www.postgresql.org/docs/18/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS
 * @returns when the server has closed that connection. By then it has signalled the backend, so the request cannot
 *   cancel a later statement. Whether it cancelled this one is known only when the statement ends.
 * @throws if it is unknown whether the server received the request; the server may still act on it
 */
export async function requestCancel(client: pg.ClientBase): Promise<void> {
  const { closed, destroy } = sendCancel(client)
  const late = () => destroy(new Error(`no response to a cancel request within ${REQUEST_MS} ms`))
  const timer = setTimeout(late, REQUEST_MS)
  return closed.finally(() => clearTimeout(timer))
}

import pg from 'pg'

/** How long PostgreSQL may take to accept the request. */
const REQUEST_MS = 3_000

/** Private properties of the driver. */
interface Internals {
  host: string
  port: number
  ssl: boolean | object
  sslNegotiation: string
  processID: number
  secretKey: number
}

interface Connection extends pg.Connection {
  connect(portOrPath: number | string, host?: string): void
  requestSsl(): void
  cancel(processID: number, secretKey: number): void
}

/**
 * Asks PostgreSQL to cancel the statement that a client is running. The request uses a separate connection and needs no login. A
 * pooler forwards it.
 * https://www.postgresql.org/docs/18/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS
 * @returns when the server has closed that connection. By then it has signalled the backend, so the request cannot
 *   cancel a later statement. Whether it cancelled this one is known only when the statement ends.
 * @throws if it is unknown whether the server received the request; the server may still act on it
 */
export async function requestCancel(client: pg.ClientBase): Promise<void> {
  const { host, port, ssl, sslNegotiation, processID, secretKey } = client as unknown as Internals
  const connection = new pg.Connection({ ssl, sslNegotiation } as pg.ConnectionConfig) as Connection
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const send = () => connection.cancel(processID, secretKey)
  connection.on('connect', () => {
    if (ssl === false) send()
    else if (sslNegotiation !== 'direct') connection.requestSsl()
  })
  connection.on('sslconnect', send)
  connection.on('error', reject)
  connection.on('end', resolve)
  const late = () => connection.stream.destroy(new Error(`no response to a cancel request within ${REQUEST_MS} ms`))
  const timer = setTimeout(late, REQUEST_MS)
  if (host.startsWith('/')) connection.connect(`${host}/.s.PGSQL.${port}`)
  else connection.connect(port, host)
  return promise.finally(() => clearTimeout(timer))
}

/**
 * The undocumented parts of the driver. No other file uses any (test/architecture.test.ts checks it). package.json pins the
 * packages to exact versions, and test/postgres/pg-internals.test.ts fails if one of these parts changes. File names are those of
 * the package pg.
 */
import type { Socket } from 'node:net'
import pg from 'pg'

/** lib/connection.js: writes messages to the socket. */
export interface Connection {
  /** `upgradeToSSL` replaces it, so it must be read again after the login. */
  readonly stream: Socket
  query(sql: string): void
  sendCopyFail(reason: string): void
}

/** lib/client.js, `connection`. Nothing documented leads to the socket of a client. */
export const connectionOf = (client: pg.ClientBase): Connection =>
  (client as unknown as { connection: Connection }).connection

/** The argument of `bind` in lib/connection.js. */
export interface Bind {
  portal?: string
  statement?: string
  values?: readonly unknown[]
  /** lib/utils.js, `prepareValue`. */
  valueMapper(value: unknown): string | Buffer | null | undefined
}

/**
 * Replaces `bind` of lib/connection.js, which `prepare` of lib/query.js calls once for each statement with parameters, between Parse
 * and Describe. There is no option for how parameters are encoded.
 */
export function replaceBind(client: pg.ClientBase, bind: (message: Bind) => void): void {
  Object.assign(connectionOf(client), { bind })
}

/**
 * A query with its own handling of the server's messages: lib/client.js calls these methods. Only `submit` is documented, and the
 * driver's own query refuses COPY FROM STDIN. A DataRow has the values as text.
 */
export interface CustomQuery {
  submit(connection: Connection): void
  handleRowDescription(): void
  handleDataRow(row: { fields: string[] }): void
  handleCopyInResponse(connection: Connection): void
  handleCommandComplete(): void
  /** Not called after `handleError`. */
  handleReadyForQuery(): void
  handleError(error: unknown): void
}

export function runCustomQuery(client: pg.ClientBase, query: CustomQuery): void {
  // The cast: the driver's types know neither these methods nor the stream of a connection as a socket.
  client.query(query as never)
}

interface Client {
  host: string
  port: number
  ssl: boolean | object
  sslNegotiation: string
  processID: number
  secretKey: number
  readyForQuery: boolean
}

const internalsOf = (client: pg.ClientBase) => client as unknown as Client

/**
 * lib/client.js, `processID`: the process id that the server sent during the login. pg_backend_pid() takes a round trip, and behind
 * a pooler it returns another number.
 */
export const processIdOf = (client: pg.ClientBase): number => internalsOf(client).processID

/**
 * lib/connection.js emits each message of the server as an event with its name in pg-protocol. The server sends its version
 * during the login, so nothing has to be asked. Call it before the client connects.
 */
export function onServerVersion(client: pg.ClientBase, listener: (version: string) => void): void {
  const connection = connectionOf(client) as unknown as NodeJS.EventEmitter
  connection.on('parameterStatus', ({ parameterName, parameterValue }) => {
    if (parameterName === 'server_version') listener(parameterValue)
  })
}

/** lib/client.js: where the client connects to; a host that begins with / is the folder of a Unix socket. */
export function addressOf(client: pg.ClientBase): string {
  const { host, port } = internalsOf(client)
  return `${host}:${port}`
}

/** lib/client.js, `readyForQuery`. The documented transaction status does not say whether a statement is running. */
export const isBusy = (client: pg.ClientBase): boolean => !internalsOf(client).readyForQuery

/**
 * Opens another connection to the server of a client, as `_connect` of lib/client.js does, and sends a cancel request on it. This
 * version of pg has no documented way. `cancel` of lib/client.js does not use TLS, and needs the private query object.
 * @returns `closed`: resolves when the server has closed the connection. `destroy`: makes `closed` reject with this error
 */
export function sendCancel(client: pg.ClientBase): { closed: Promise<void>; destroy: (error: Error) => void } {
  const { host, port, ssl, sslNegotiation, processID, secretKey } = internalsOf(client)
  const connection = new pg.Connection({ ssl, sslNegotiation } as pg.ConnectionConfig) as pg.Connection & {
    connect(portOrPath: number | string, host?: string): void
    requestSsl(): void
    cancel(processID: number, secretKey: number): void
  }
  const { promise: closed, resolve, reject } = Promise.withResolvers<void>()
  const send = () => connection.cancel(processID, secretKey)
  connection.on('connect', () => {
    if (ssl === false) send()
    else if (sslNegotiation !== 'direct') connection.requestSsl()
  })
  connection.on('sslconnect', send)
  connection.on('error', reject)
  connection.on('end', resolve)
  if (host.startsWith('/')) connection.connect(`${host}/.s.PGSQL.${port}`)
  else connection.connect(port, host)
  return { closed, destroy: (error) => void connection.stream.destroy(error) }
}

/**
 * pg-pool, index.js, `onConnect`: it awaits the promise before it lends a new client, and closes the client if the promise rejects.
 * The documentation lacks this option. What a listener of `connect` does is not awaited.
 */
export const withSetUp = (
  config: pg.PoolConfig,
  setUp: (client: pg.ClientBase) => Promise<unknown>,
): pg.PoolConfig => ({
  ...config,
  onConnect: setUp,
})

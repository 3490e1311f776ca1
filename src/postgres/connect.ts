import { Kysely, type LogEvent, PostgresDialect, sql } from 'kysely'
import pg from 'pg'
import { isSocket } from '../lib/libpq-variables.ts'
import { within } from '../lib/within.ts'
import { bindInPlace } from './bind.ts'
import { closeWhenDead } from './dead-connections.ts'
import { describeLoginFailure } from './login-failure.ts'
import { type Listening, listen } from './notifications.ts'
import { addressOf, connectionOf, onServerVersion, processIdOf, withSetUp } from './pg-internals.ts'
import { forgetPooling, requireSessionPooling } from './pooling.ts'
import { type Plan, setUpStatement } from './session.ts'
import { NotConnectedError } from './sqlstate.ts'
import type { Database, Tables } from './tables.ts'
import { confirmed } from './unconfirmed.ts'
import { requireVersion, UnsupportedServerError } from './unsupported.ts'

export interface ConnectOptions {
  url: string
  /** The name of the setting with the URL, for messages. Default: DATABASE_URL. */
  setting?: string
  /** Shown in pg_stat_activity. */
  name: string
  /** Maximum number of connections. */
  connections: number
  /** The server cancels a statement after this time, in milliseconds; 0: never. */
  statementTimeoutMs: number
  /** Parse and plan each statement once per connection: for a pool with a few statements that are sent all the time. */
  prepare?: boolean
  /** How statements find rows. Default: as the planner decides. */
  plan?: Plan
  /** Notice a dead connection within seconds, instead of when TCP gives up. */
  watched?: boolean
  /** How long to wait for a login, in milliseconds, if the default is too long: for code that retries. */
  loginMs?: number
  /** Receives notifications while a connection is open. */
  listening?: Listening
  /** Called when a connection breaks, idle or busy. */
  onError: (error: Error) => void
  /** Called if Sluice cannot work with this server, unless a connection has worked before. */
  onUnsupported?: (error: Error) => void
  /** Called when a statement has ended. */
  onQuery?: ((query: Query) => void) | undefined
}

/** A statement that has ended, with success or with an error. */
export interface Query {
  sql: string
  milliseconds: number
  error: unknown
  /** URL of the database. */
  url: string
}

/** How long connecting and logging in may take, and how long to wait for a connection while all are in use. */
const CONNECT_TIMEOUT_MS = 3_000

interface Opened {
  pool: Pool
  options: ConnectOptions
}

/** The pool of each database, which Kysely keeps private. Each database has one: only `connect` makes databases. */
const pools = new WeakMap<Database, Opened>()
const poolOf = (db: Database) => pools.get(db) as Opened

/** A Kysely instance with a pool of connections. It connects on first use. */
export function connect(options: ConnectOptions): Database {
  const { onQuery } = options
  const pool = new Pool(options)
  const db: Database = new Kysely<Tables>({
    dialect: new PostgresDialect({ pool }),
    ...(onQuery === undefined ? {} : { log: (event) => onQuery(toQuery(event, options.url)) }),
  })
  pools.set(db, { pool, options })
  return db
}

/**
 * Lends a connection of the driver, for what Kysely cannot express.
 * @param db made by `connect`
 * @param sql the statement, for `onQuery`
 * @param work may call `discard`: then the connection is closed and not used again
 */
export async function withClient<T>(
  db: Database,
  sql: string,
  work: (client: pg.Client, discard: () => void) => Promise<T>,
): Promise<T> {
  const { pool, options } = poolOf(db)
  const client: pg.PoolClient = await pool.connect()
  const begin = performance.now()
  let discarded = false
  const report = (error?: unknown) =>
    options.onQuery?.({ sql, milliseconds: performance.now() - begin, error, url: options.url })
  try {
    const result = await work(client, () => {
      discarded = true
    })
    report()
    return result
  } catch (error) {
    report(error)
    throw error
  } finally {
    client.release(discarded)
  }
}

/** Connects, if no connection is open. @throws NotConnectedError */
export const tryConnection = (db: Database): Promise<unknown> => sql`SELECT`.execute(db)

export interface PoolStatus {
  /** Open connections, and their limit. */
  total: number
  max: number
  /** Open connections that are not in use. */
  idle: number
  /** Queries that wait for a connection. */
  waiting: number
}

/** @param db made by `connect` */
export function poolStatus(db: Database): PoolStatus {
  const { pool, options } = poolOf(db)
  return { total: pool.totalCount, max: options.connections, idle: pool.idleCount, waiting: pool.waitingCount }
}

/**
 * Closes all connections at once, even in the middle of a statement. The statements fail with a broken connection.
 * @param db made by `connect`
 */
export function cutConnections(db: Database): void {
  poolOf(db).pool.cut()
}

const toQuery = (event: LogEvent, url: string): Query => ({
  sql: event.query.sql,
  milliseconds: event.queryDurationMillis,
  error: event.level === 'error' ? event.error : undefined,
  url,
})

class Pool extends pg.Pool {
  readonly #options: ConnectOptions
  readonly #clients = new Set<pg.PoolClient>()
  #worked = false

  constructor(options: ConnectOptions) {
    const {
      url,
      setting = 'DATABASE_URL',
      name,
      connections,
      statementTimeoutMs,
      prepare = false,
      plan = 'free',
      watched,
    } = options
    const connectionString = driverUrl(url)
    const config = {
      connectionString,
      application_name: name,
      max: connections,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      keepAlive: true,
      types: {
        getTypeParser: (oid: number, format?: 'text' | 'binary') =>
          TEXT_TYPES.has(oid) ? String : pg.types.getTypeParser(oid, format),
      },
      Client: prepare ? PreparingClient : ConfirmingClient,
    } satisfies pg.PoolConfig
    // The driver's timeout covers only the login, and the connection is not watched yet. If it died now, it would occupy the
    // pool until TCP gives up, and some pools have only one connection.
    super(withSetUp(config, (client) => within(CONNECT_TIMEOUT_MS, setUp(client as ConfirmingClient))))
    async function setUp(client: ConfirmingClient): Promise<void> {
      await openSession(client)
      if (options.listening !== undefined) await listen(client, options.listening)
    }
    async function openSession(client: ConfirmingClient): Promise<void> {
      requireVersion(client.serverVersion, addressOf(client), setting)
      const direct = await client.query(setUpStatement(statementTimeoutMs, plan, processIdOf(client)))
      if (direct.rowCount === 1) return
      // A pooler in between reports its own process ids.
      await requireSessionPooling(client, connectionString, setting)
      await client.query(setUpStatement(statementTimeoutMs, plan))
    }
    const onError = (error: Error) => {
      forgetPooling(connectionString)
      options.onError(error)
    }
    // Without a listener on the pool (for idle clients) and on every client (for busy ones), a lost connection ends the
    // process: node-postgres issues 2386 and 1611.
    this.on('error', onError)
    this.on('connect', (client) => client.on('error', onError))
    this.on('connect', (client) => this.#clients.add(client))
    this.on('remove', (client) => this.#clients.delete(client))
    this.#options = options
    if (watched === true) this.on('connect', (client) => closeWhenDead(client, connectionString))
  }

  cut(): void {
    for (const client of this.#clients) connectionOf(client).stream.destroy()
  }

  /** Throws NotConnectedError, which distinguishes "never sent" from "sent, and then the connection broke". */
  override async connect(): Promise<pg.PoolClient> {
    const { url, setting = 'DATABASE_URL', connections, loginMs = CONNECT_TIMEOUT_MS, onUnsupported } = this.#options
    const logsIn = this.idleCount === 0 && this.totalCount < connections
    const connecting = super.connect()
    try {
      const client = await (logsIn ? within(loginMs, connecting) : connecting)
      this.#worked = true
      return client
    } catch (error) {
      // A slow login continues. If it succeeds later, the connection goes back to the pool.
      connecting.then(
        (client) => client.release(),
        () => {},
      )
      if (error instanceof UnsupportedServerError && !this.#worked) onUnsupported?.(error)
      throw new NotConnectedError(describeLoginFailure(error, setting, url), { cause: error })
    }
  }
}

/** URL parameters that the driver would send at the login. A pooler refuses them, and Sluice sets its own values. */
const SESSION_PARAMETERS = ['statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout']

/** Parameters for TLS. If a URL has none of them, the driver would read variables of libpq, but not all values of them. */
const TLS_PARAMETERS = ['sslmode', 'sslrootcert', 'sslcert', 'sslkey', 'sslnegotiation']

/** The URL for the driver. Its `sslmode` means what it means for psql, unless it is the driver's own `no-verify`. */
export function driverUrl(url: string): string {
  const parsed = new URL(url)
  const { searchParams: parameters } = parsed
  for (const name of SESSION_PARAMETERS) parameters.delete(name)
  if (isSocket(parsed) || !TLS_PARAMETERS.some((name) => parameters.has(name))) {
    for (const name of TLS_PARAMETERS) parameters.delete(name)
    parameters.set('sslmode', 'disable')
    parameters.set('sslnegotiation', 'postgres')
  }
  const mode = parameters.get('sslmode')
  if (mode !== null && mode !== 'no-verify') parameters.set('uselibpqcompat', 'true')
  return parsed.href
}

/** timestamptz, json, jsonb. The driver returns int8 and xid8 as text by default. */
const TEXT_TYPES: ReadonlySet<number> = new Set([1184, 114, 3802])

/** A client that fails a statement if no standby has confirmed its commit. */
class ConfirmingClient extends pg.Client {
  /** Empty until the login. */
  serverVersion = ''

  constructor(config?: pg.ClientConfig) {
    super(config)
    onServerVersion(this, (version) => {
      this.serverVersion = version
    })
  }

  /**
   * Closes the connection of a failed login, which the driver leaves open if the server asks for a password and there is none. For
   * a minute (authentication_timeout), CREATE DATABASE and DROP DATABASE of everybody would wait for that connection.
   */
  override connect(): Promise<pg.Client>
  override connect(callback: (error: Error) => void): void
  override connect(callback?: (error: Error) => void): Promise<pg.Client> | undefined {
    if (callback === undefined) return super.connect()
    super.connect((error: Error) => {
      if (error) connectionOf(this).stream.destroy()
      callback(error)
    })
    return undefined
  }

  // biome-ignore lint/suspicious/noExplicitAny: the driver's overloads, of which Kysely uses (text, values)
  override query(query: any, values?: any): any {
    // Queries with a `submit` method: copy-in.ts calls `confirmed` itself, read-rows.ts only reads.
    if (typeof query.submit === 'function') return super.query(query)
    return confirmed(this, () => super.query(query, values))
  }
}

/** A client that names each statement, so that the server reuses its plan, and that sends large parameters efficiently. */
class PreparingClient extends ConfirmingClient {
  static readonly #names = new Map<string, string>()

  constructor(config?: pg.ClientConfig) {
    super(config)
    bindInPlace(this)
  }

  // biome-ignore lint/suspicious/noExplicitAny: the driver's overloads, of which Kysely uses (text, values)
  override query(text: any, values?: any): any {
    if (typeof text !== 'string' || !Array.isArray(values) || values.length === 0) return super.query(text, values)
    return super.query({ name: PreparingClient.nameOf(text), text, values })
  }

  static nameOf(text: string): string {
    const names = PreparingClient.#names
    const name = names.get(text) ?? `sluice_${names.size}`
    names.set(text, name)
    return name
  }
}

/** The name under which a statement is prepared on this connection; undefined if its pool does not prepare statements. */
export const statementName = (client: pg.Client, text: string): string | undefined =>
  client instanceof PreparingClient ? PreparingClient.nameOf(text) : undefined

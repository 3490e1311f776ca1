import { Kysely, type LogEvent, PostgresDialect } from 'kysely'
import pg from 'pg'
import { bindInPlace } from './bind.ts'
import type { Database, Tables } from './schema.ts'
import { SYNCHRONOUS_SESSION, sessionOptions } from './session.ts'
import { watchSilence } from './silence.ts'
import { NotConnectedError } from './sqlstate.ts'
import { confirmed } from './unconfirmed.ts'

export interface ConnectOptions {
  url: string
  /** Shown in pg_stat_activity. */
  name: string
  /** Most connections at once. */
  connections: number
  /** After this long the server cancels a statement; 0: never. In milliseconds. */
  statementTimeoutMs: number
  /** Parse and plan each statement once a connection: for the few statements that are sent all the time. */
  prepare?: boolean
  /** Notice within seconds that nobody answers any more, instead of when TCP does. */
  watched?: boolean
  /** How long to wait for a login, in milliseconds, where that is less than usual: for whoever tries again. */
  loginMs?: number
  /** Told of connections that break, idle ones and busy ones. */
  onError: (error: Error) => void
  /** Told of each statement when it has ended. */
  onQuery?: ((query: Query) => void) | undefined
}

/** A statement that has ended, well or with an error. */
export interface Query {
  sql: string
  milliseconds: number
  error: unknown
  /** Of the database. */
  url: string
}

/** How long a TCP connection and the login may take, and how long one waits for a connection that is in use. */
const CONNECT_TIMEOUT_MS = 3_000

interface Opened {
  pool: Pool
  options: ConnectOptions
}

/** What is behind each, which Kysely does not give away; by the adapter, which those made from it with a plugin share. */
const pools = new WeakMap<object, Opened>()
const poolOf = (db: Database) => pools.get(db.getExecutor().adapter) as Opened

/** A pool of connections, behind Kysely. It connects when first used. */
export function connect(options: ConnectOptions): Database {
  const { onQuery } = options
  const pool = new Pool(options)
  const db: Database = new Kysely<Tables>({
    dialect: new PostgresDialect({ pool: pool as never }),
    ...(onQuery === undefined ? {} : { log: (event) => onQuery(toQuery(event, options.url)) }),
  })
  pools.set(db.getExecutor().adapter, { pool, options })
  return db
}

/**
 * Lends a connection for what Kysely has no word for.
 * @param db made by `connect`
 * @param sql what is done with it
 * @param work may call `discard`: then nobody else gets the connection after it
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
  const note = (error?: unknown) =>
    options.onQuery?.({ sql, milliseconds: performance.now() - begin, error, url: options.url })
  try {
    const result = await work(client as unknown as pg.Client, () => {
      discarded = true
    })
    note()
    return result
  } catch (error) {
    note(error)
    throw error
  } finally {
    client.release(discarded)
  }
}

export interface PoolStatus {
  /** Connections that there are, and that there may be. */
  total: number
  max: number
  /** Of them those that nobody uses. */
  idle: number
  /** Queries that wait for one. */
  waiting: number
}

/** @param db made by `connect` */
export function poolStatus(db: Database): PoolStatus {
  const { totalCount, idleCount, waitingCount, options } = poolOf(db).pool
  return { total: totalCount, max: options.max, idle: idleCount, waiting: waitingCount }
}

/**
 * Breaks the connections, whatever their statements wait for: the callers learn that the connection broke.
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
  readonly #loginMs: number
  readonly #clients = new Set<pg.PoolClient>()

  constructor({ url, name, connections, statementTimeoutMs, prepare, watched, loginMs, onError }: ConnectOptions) {
    const { connectionString, options } = withoutOptions(url)
    super({
      connectionString,
      application_name: name,
      max: connections,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      keepAlive: true,
      options: sessionOptions(options, statementTimeoutMs, prepare === true),
      // The driver's timeout ends with the login, and nobody watches the connection yet: one that falls silent now would keep
      // its place until TCP gives up, and of some pools it is the only one.
      onConnect: (client) => within(CONNECT_TIMEOUT_MS, client.query(SYNCHRONOUS_SESSION)),
      types: {
        getTypeParser: ((oid: number, format?: 'text') =>
          TEXT_TYPES.has(oid) ? String : pg.types.getTypeParser(oid, format)) as never,
      },
      Client: prepare === true ? PreparingClient : ConfirmingClient,
    } as pg.PoolConfig)
    // Without a listener on the pool (idle clients) and on every client (busy ones) a lost connection ends the process:
    // node-postgres issues 2386 and 1611.
    this.on('error', onError)
    this.on('connect', (client) => client.on('error', onError))
    this.on('connect', (client) => this.#clients.add(client))
    this.on('remove', (client) => this.#clients.delete(client))
    this.#loginMs = loginMs ?? CONNECT_TIMEOUT_MS
    const watch = { connectionString, options: sessionOptions(options, CONNECT_TIMEOUT_MS, false) }
    if (watched === true) this.on('connect', (client) => watchSilence(client, watch))
  }

  cut(): void {
    for (const client of this.#clients) (client as unknown as { connection: pg.Connection }).connection.stream.destroy()
  }

  /** Tells "never sent" from "sent, and then the connection broke". */
  override async connect(): Promise<never> {
    const logsIn = this.idleCount === 0 && this.totalCount < this.options.max
    const connecting = super.connect()
    try {
      return (await (logsIn ? within(this.#loginMs, connecting) : connecting)) as never
    } catch (error) {
      // A login that is merely slow goes on. Should it get in after all, whoever asks next takes it.
      connecting.then(
        (client) => client.release(),
        () => {},
      )
      throw new NotConnectedError('no connection to PostgreSQL', { cause: error })
    }
  }
}

/** What the driver takes from a URL and lets take the place of `sessionOptions`. */
const SESSION_PARAMETERS = ['options', 'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout']

/** The URL without what must not take the place of ours, and the options that it had. */
function withoutOptions(url: string): { connectionString: string; options: string } {
  if (!SESSION_PARAMETERS.some((name) => url.includes(`${name}=`))) return { connectionString: url, options: '' }
  const parsed = new URL(url)
  const options = parsed.searchParams.get('options') ?? ''
  for (const name of SESSION_PARAMETERS) parsed.searchParams.delete(name)
  return { connectionString: parsed.href, options }
}

async function within<T>(milliseconds: number, promise: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => late.reject(new Error(`nothing in ${milliseconds} ms`)), milliseconds)
  return Promise.race([promise, late.promise]).finally(() => clearTimeout(timer))
}

/** timestamptz, json, jsonb; int8 and xid8 are text already. */
const TEXT_TYPES: ReadonlySet<number> = new Set([1184, 114, 3802])

/** Fails a statement whose commit no standby has confirmed. */
class ConfirmingClient extends pg.Client {
  // biome-ignore lint/suspicious/noExplicitAny: the driver's overloads, of which Kysely uses (text, values)
  override query(query: any, values?: any): any {
    // One that answers for itself (copy-in.ts, read-rows.ts).
    if (typeof query.submit === 'function') return super.query(query)
    return confirmed(this, () => super.query(query, values))
  }
}

/** Gives each statement text a name, by which the server finds its plan again, and sends large parameters well. */
class PreparingClient extends ConfirmingClient {
  static readonly #names = new Map<string, string>()

  constructor(config: pg.ClientConfig) {
    super(config)
    bindInPlace(this)
  }

  // biome-ignore lint/suspicious/noExplicitAny: the driver's overloads, of which Kysely uses (text, values)
  override query(text: any, values?: any): any {
    if (typeof text !== 'string' || !Array.isArray(values) || values.length === 0) return super.query(text, values)
    const names = PreparingClient.#names
    const name = names.get(text) ?? `sluice_${names.size}`
    names.set(text, name)
    return super.query({ name, text, values })
  }
}

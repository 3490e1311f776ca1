import type { Socket } from 'node:net'
import pg from 'pg'

/** How often busy connections are looked at; one that is silent from one look to the next but one is suspect. */
const LOOK_MS = 1_000
/** How long PostgreSQL may take to say what it is doing, once for the login and once for the answer. */
const ANSWER_MS = 1_000

/** What the driver keeps to itself, by the names it has there. */
interface Internals {
  connection: { stream: Socket }
  /** Of the backend. */
  processID: number
  /** Owes no answer. */
  readyForQuery: boolean
}

/**
 * Finds connections that are dead and do not know it. When a network drops packets, or a host is gone, nobody tells:
 * a statement that was sent would wait for TCP to give up, which takes a quarter of an hour, and TCP's own keep-alive
 * is no help while sent bytes are not acknowledged (RFC 1122, section 4.2.3.6).
 *
 * A statement may take its time, so silence alone proves nothing. A silent connection is asked after over another one:
 * it is cut when PostgreSQL cannot be reached, and when it says that it is not working on that statement.
 */
export class SilenceWatch {
  readonly #config: pg.ClientConfig
  /** The bytes that came so far, at each of the last looks at which they were as many. */
  readonly #seen = new Map<pg.PoolClient, { bytes: number; looks: number }>()
  #timer: NodeJS.Timeout | undefined
  #asking = false

  /** @param config to connect with */
  constructor(config: pg.ClientConfig) {
    this.#config = config
  }

  add(client: pg.PoolClient): void {
    this.#seen.set(client, { bytes: 0, looks: 0 })
    this.#timer ??= setInterval(() => this.#look(), LOOK_MS).unref()
  }

  remove(client: pg.PoolClient): void {
    this.#seen.delete(client)
    if (this.#seen.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #look(): void {
    for (const [client, seen] of this.#seen) {
      const { connection, readyForQuery } = internalsOf(client)
      const bytes = connection.stream.bytesRead
      const silent = !readyForQuery && bytes === seen.bytes
      Object.assign(seen, { bytes, looks: silent ? seen.looks + 1 : 0 })
    }
    const suspects = this.#silent()
    if (suspects.length > 0 && !this.#asking) void this.#askAfter(suspects)
  }

  #silent(): pg.PoolClient[] {
    return [...this.#seen].flatMap(([client, { bytes, looks }]) =>
      looks >= 2 && internalsOf(client).connection.stream.bytesRead === bytes ? [client] : [],
    )
  }

  async #askAfter(suspects: pg.PoolClient[]): Promise<void> {
    this.#asking = true
    try {
      const working = await this.#workingBackends()
      // What has spoken meanwhile is not among them any more.
      for (const client of this.#silent().filter((one) => suspects.includes(one))) {
        if (!working(internalsOf(client).processID)) cut(client)
      }
    } finally {
      this.#asking = false
    }
  }

  /** @returns whether a backend, by its process id, works on a statement; when nobody can tell, each counts as if */
  async #workingBackends(): Promise<(pid: number) => boolean> {
    const client = new pg.Client({
      ...this.#config,
      connectionTimeoutMillis: ANSWER_MS,
      query_timeout: ANSWER_MS,
    })
    client.on('error', () => {})
    try {
      await client.connect()
      // One that waits for us to read is waiting for a connection that is dead.
      const { rows } = await client.query<{ pid: number }>(
        `SELECT pid FROM pg_stat_activity WHERE state NOT LIKE 'idle%' AND wait_event IS DISTINCT FROM 'ClientWrite'`,
      )
      const pids = new Set(rows.map(({ pid }) => pid))
      return (pid) => pids.has(pid)
    } catch (error) {
      // It lives, and lets nobody in; 57P is its start and its end.
      const sqlstate = (error as { code?: string }).code
      const alive = sqlstate !== undefined && /^\d[\dA-Z]{4}$/.test(sqlstate) && !sqlstate.startsWith('57P')
      return () => alive
    } finally {
      internalsOf(client).connection.stream.destroy()
    }
  }
}

/** As the kernel would, if it knew. */
function cut(client: pg.PoolClient): void {
  const error = new Error('the connection is dead: PostgreSQL does not answer on it')
  internalsOf(client).connection.stream.destroy(Object.assign(error, { code: 'ETIMEDOUT' }))
}

const internalsOf = (client: pg.ClientBase) => client as unknown as Internals

import { setTimeout as sleep } from 'node:timers/promises'
import { type KeyRow, selectKeys } from '../data/keys.ts'
import { toRfc3339 } from '../lib/pg-time.ts'
import { SingleFlight } from '../lib/single-flight.ts'
import type { Database } from '../postgres/tables.ts'
import { Problem } from '../problems.ts'
import { checkKey, lostRight } from './check-key.ts'
import { hashKey, type Key, type Scope } from './key.ts'

/** Maximum age of the copy, and so how long a revoked key may still work. */
const REFRESH_MS = 2_000
/** Keys that are not in the copy may be new, so they are looked up. This is the minimum time between two lookups. */
const LOOK_AGAIN_MS = 100
/** Maximum number of requests that wait for a lookup. Their clients may have no valid key, so they get no share of the memory. */
export const MAX_LOOKUPS = 100

/** The streams that a key has opened with a scope. */
interface Watch {
  /** The key as of the last copy. */
  key: Key
  scope: Scope
  end: AbortController
}

/**
 * All keys, in memory. A request costs no query, and a hash only the first time that a token is used. The keys are read again
 * every two seconds, so that all instances refuse a revoked key. During an outage of the database the last copy is used, so
 * that requests can wait for the database.
 */
export class KeyRing {
  readonly #db: Database
  readonly #onError: (error: unknown) => void
  /** Keys by hash. */
  #keys: ReadonlyMap<string, Key> | undefined
  /** Keys by token: those that were used since the last copy, so that each token is hashed only once. */
  #found = new Map<string, Key>()
  #byId: ReadonlyMap<string, Key> = new Map()
  /** By scope and key id: one for all streams of a key with this scope. It stays until the key loses a right. */
  readonly #watches = new Map<string, Watch>()
  #readAt = Number.NEGATIVE_INFINITY
  /** When the copy was made. Before the first copy: when this object was created. */
  #copiedAt = performance.now()
  readonly #reading = new SingleFlight(() => this.#read())
  /** Number of requests that wait for the next read. */
  #looking = 0
  /** The wait for the next read, which starts after it and so sees all keys that exist now. */
  readonly #waiting = new SingleFlight(() => this.#waitForNextRead())
  #timer: NodeJS.Timeout | undefined
  /** Whether the last refresh failed. */
  #failing = false

  /** @param onError called when a refresh fails, but only once in a series of failures */
  constructor(db: Database, onError: (error: unknown) => void) {
    this.#db = db
    this.#onError = onError
  }

  /** The age of the copy in milliseconds. */
  get ageMs(): number {
    return performance.now() - this.#copiedAt
  }

  /** Starts to refresh the copy regularly. */
  start(): void {
    this.#timer = setInterval(() => {
      // A key can expire without a change in the database.
      this.#endStreams()
      void this.#refresh()
    }, REFRESH_MS)
    this.#timer.unref()
  }

  /** Reads the keys for the first time. Until then, every key is unknown, and at most MAX_LOOKUPS requests can wait. */
  async readFirst(): Promise<void> {
    if (this.#keys === undefined) await this.#reading.run()
  }

  async #refresh(): Promise<void> {
    try {
      await this.#reading.run()
      this.#failing = false
    } catch (error) {
      if (!this.#failing) this.#onError(error)
      this.#failing = true
    }
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#reading.idle()
  }

  /**
   * The key of a token, if any. Returns a promise only before the first copy, and for unknown tokens.
   * @throws Problem database_unavailable if the key is not in the copy and the keys cannot be read, because it may be a new key;
   *   overloaded if too many requests wait for this
   */
  find(token: string): Key | undefined | Promise<Key | undefined> {
    return this.known(token) ?? this.#look(hashKey(token))
  }

  /** The key of a token if it is in the copy. */
  known(token: string): Key | undefined {
    const found = this.#found.get(token)
    if (found !== undefined) return found
    const key = this.#keys?.get(hashKey(token))
    if (key !== undefined) this.#found.set(token, key)
    return key
  }

  /**
   * The current state of the key, for requests that were authorized a long time ago.
   * @throws Problem unauthorized, forbidden
   */
  current(key: Key, scope: Scope): Key {
    return checkKey(this.#byId.get(key.id), scope)
  }

  /**
   * For streams: a signal that aborts within two seconds after the key is revoked, is deleted, expires, or loses the scope or a
   * source prefix. Its reason is the Problem.
   */
  watch(key: Key, scope: Scope): AbortSignal {
    const lost = lostRight(key, this.#byId.get(key.id), scope)
    if (lost !== undefined) return AbortSignal.abort(lost)
    const name = `${scope} ${key.id}`
    const watch = this.#watches.get(name) ?? { key, scope, end: new AbortController() }
    this.#watches.set(name, watch)
    return watch.end.signal
  }

  #endStreams(): void {
    for (const [name, watch] of this.#watches) {
      const now = this.#byId.get(watch.key.id)
      const lost = lostRight(watch.key, now, watch.scope)
      watch.key = now ?? watch.key
      if (lost === undefined) continue
      this.#watches.delete(name)
      watch.end.abort(lost)
    }
  }

  /** The key may be newer than the copy. All requests that look up keys at the same time share one read. */
  async #look(hash: string): Promise<Key | undefined> {
    if (this.#looking >= MAX_LOOKUPS) {
      throw new Problem(
        'overloaded',
        'This instance is already looking up too many unknown API keys. Send the request again later.',
      )
    }
    this.#looking++
    try {
      await this.#waiting.run()
      await this.#reading.run()
    } catch (cause) {
      const detail =
        'This instance does not know the API key and cannot look it up, because the database is unavailable.'
      throw new Problem('database_unavailable', detail, { cause })
    } finally {
      this.#looking--
    }
    return this.#keys?.get(hash)
  }

  async #waitForNextRead(): Promise<void> {
    await sleep(Math.max(0, this.#readAt + LOOK_AGAIN_MS - performance.now()))
    await this.#reading.idle()
  }

  async #read(): Promise<void> {
    const now = performance.now()
    this.#readAt = now
    const rows = await selectKeys(this.#db)
    const keys = rows.map((row) => [row.hash.toString('hex'), toKey(row)] as const)
    this.#keys = new Map(keys)
    this.#byId = new Map(keys.map(([, key]) => [key.id, key]))
    this.#copiedAt = now
    this.#found = new Map()
    this.#endStreams()
  }
}

function toKey(row: KeyRow): Key {
  return {
    id: row.id,
    name: row.name,
    scopes: row.scopes,
    sourcePrefixes: row.source_prefixes,
    recordsPerSecond: row.records_per_second,
    expiresAt: row.expires_at === null ? null : new Date(toRfc3339(row.expires_at)),
    revokedAt: row.revoked_at === null ? null : new Date(toRfc3339(row.revoked_at)),
  }
}

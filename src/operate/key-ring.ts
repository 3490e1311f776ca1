import { setTimeout as sleep } from 'node:timers/promises'
import { type KeyRow, selectKeys } from '../data/keys.ts'
import type { Database } from '../data/schema.ts'
import { toRfc3339 } from '../lib/pg-time.ts'
import { Problem } from '../lib/problems.ts'
import { checkKey, lostRight } from './access.ts'
import { hashKey, type Key, type Scope } from './keys.ts'

/** How old the copy may get: a revoked key works for as long at most. */
const REFRESH_MS = 2_000
/** A key that is not in the copy may be new: that is looked up, but so often at most, whatever callers send. */
const LOOK_AGAIN_MS = 100
/** Requests that wait for that: as far as anybody knows, their callers have no key, and so no share of the memory. */
export const MOST_LOOKING = 100

/** The streams that a key was let in with for a scope. */
interface Watch {
  /** As it was when the copy was last made. */
  key: Key
  scope: Scope
  end: AbortController
}

/**
 * All keys, in memory: a request costs no query, and a hash only the first time. Read again every two seconds, so that a
 * key that is revoked on one instance is refused on all. While the database is away the last copy holds, so that requests
 * can wait for it.
 */
export class KeyRing {
  readonly #db: Database
  readonly #onError: (error: unknown) => void
  /** By hash. */
  #keys: ReadonlyMap<string, Key> | undefined
  /** By token: those that were asked for since the copy was made, so that each is hashed once. */
  #found = new Map<string, Key>()
  #byId: ReadonlyMap<string, Key> = new Map()
  /** By scope and id: one for all streams of a key, which stays until the key loses a right. */
  readonly #watches = new Map<string, Watch>()
  #readAt = Number.NEGATIVE_INFINITY
  /** When the copy was made; before there is one, when this began. */
  #copiedAt = performance.now()
  /** The read that is under way. */
  #reading: Promise<void> | undefined
  /** Requests that wait for the next one. */
  #looking = 0
  /** One that has not begun, and will see whatever exists now. */
  #nextRead: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  /** The last refresh failed. */
  #failing = false

  /** @param onError told of the first of refreshes that fail one after the other */
  constructor(db: Database, onError: (error: unknown) => void) {
    this.#db = db
    this.#onError = onError
  }

  /** How old the copy is, in milliseconds. */
  get ageMs(): number {
    return performance.now() - this.#copiedAt
  }

  /** Begins to keep the copy fresh. */
  start(): void {
    this.#timer = setInterval(() => {
      // An expiry needs no database.
      this.#endStreams()
      void this.#refresh()
    }, REFRESH_MS)
    this.#timer.unref()
  }

  /** Reads the keys for the first time. Until then every key is unknown, and at most MOST_LOOKING requests can wait. */
  async readFirst(): Promise<void> {
    if (this.#keys === undefined) await this.#read()
  }

  async #refresh(): Promise<void> {
    try {
      await this.#read()
      this.#failing = false
    } catch (error) {
      if (!this.#failing) this.#onError(error)
      this.#failing = true
    }
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#reading?.catch(() => undefined)
  }

  /**
   * The key a token belongs to, if any. Answers at once, but for the first calls and for tokens it does not know.
   * @throws Problem database_unavailable when it is not in the copy, and the keys cannot be read: it may be a new one;
   * overloaded when too many wait for that
   */
  find(token: string): Key | undefined | Promise<Key | undefined> {
    return this.known(token) ?? this.#look(hashKey(token))
  }

  /** The key a token belongs to, as far as the copy has it. */
  known(token: string): Key | undefined {
    const found = this.#found.get(token)
    if (found !== undefined) return found
    const key = this.#keys?.get(hashKey(token))
    if (key !== undefined) this.#found.set(token, key)
    return key
  }

  /**
   * The key as the copy has it now, for what is done with a request long after it was let in.
   * @throws Problem unauthorized, forbidden
   */
  current(key: Key, scope: Scope): Key {
    return checkKey(this.#byId.get(key.id), scope)
  }

  /**
   * For a stream: aborted within two seconds after the key was revoked or removed, has expired, or lost the scope or a source
   * prefix. The reason is the Problem that says so.
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

  /** The key may be newer than the copy. Those who ask meanwhile wait for the same read. */
  async #look(hash: string): Promise<Key | undefined> {
    if (this.#looking >= MOST_LOOKING) {
      throw new Problem(
        'overloaded',
        'Too many API keys that this instance does not know are being looked up. Send it again later.',
      )
    }
    this.#looking++
    this.#nextRead ??= sleep(Math.max(0, this.#readAt + LOOK_AGAIN_MS - performance.now()))
      .then(() => this.#reading?.catch(() => undefined))
      .then(() => {
        this.#nextRead = undefined
        return this.#read()
      })
    try {
      await this.#nextRead
    } catch (cause) {
      const detail = 'The API key is not known, and the database cannot be asked for it.'
      throw new Problem('database_unavailable', detail, { cause })
    } finally {
      this.#looking--
    }
    return this.#keys?.get(hash)
  }

  #read(): Promise<void> {
    this.#reading ??= this.#readKeys().finally(() => {
      this.#reading = undefined
    })
    return this.#reading
  }

  async #readKeys(): Promise<void> {
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

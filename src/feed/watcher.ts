import { setTimeout as sleep } from 'node:timers/promises'
import type { FeedFilter } from './feed-filter.ts'
import type { FeedRecord } from './feed-record.ts'
import { type FeedPage, type PageLimits, RecentRecords } from './recent-records.ts'
import { WaitingReaders } from './waiting-readers.ts'

/**
 * The watcher follows the head of the feed for all live readers of this instance. It reads each new record once, keeps the newest
 * ones in memory, and wakes the readers that wait for one of them. So a waiting reader costs no query.
 *
 * It has three states:
 *
 * - stopped: no live reader exists, and for LINGER_MS there was none. Nothing is in memory.
 * - watching: all records between two offsets are in memory. It reads after each commit that it hears of, and every POLL_MS.
 * - doubting: a read failed, or the connection is a new one, perhaps to another server. The memory stays as it is, and readers wait.
 *   The first check that succeeds decides: if the record at the head of the memory is still stored, it watches. If not, the database may
 *   have lost records. Then the memory is emptied, and every reader reads from the database, where its own offset is checked.
 */

/** What the watcher needs of the database. All functions may throw. */
export interface FeedSource {
  head(): Promise<string>
  /** Reads the records after an offset, and the offset to continue from. */
  read(after: string): Promise<{ records: FeedRecord[]; next: string; upToDate: boolean }>
  /** Whether the record at this offset is stored. The start of the feed counts as stored. */
  has(offset: string): Promise<boolean>
}

interface WatcherOptions {
  /** Memory for records, in characters. */
  recentSize: number
  /** Called when the database fails, and not again until it has worked. */
  onError: (error: unknown) => void
}

/** For commits that nobody reports, such as those of another instance behind a pooler. */
const POLL_MS = 500
/** The least time from one read to the next: if it read after each commit, it would slow them down. */
const REST_MS = 5
const LINGER_MS = 10_000
const FIRST_PAUSE_MS = 50
const MAX_PAUSE_MS = 500

export class Watcher {
  readonly #source: FeedSource
  readonly #options: WatcherOptions
  readonly #recent: RecentRecords
  readonly #waiting = new WaitingReaders()
  /** Those that began to wait before the watcher had reached the head: they have not learned yet that they have reached it too. */
  readonly #behind = new Set<(upTo: string) => void>()
  /** All readers that wait were woken for the records up to here. It is before the head of the memory while they are being woken. */
  #announced = ''
  #readers = 0
  #lastLeft = 0
  #state: 'stopped' | 'watching' | 'doubting' = 'stopped'
  #running = false
  #closed = false
  #hasNews = false
  #wake = () => {}

  constructor(source: FeedSource, options: WatcherOptions) {
    this.#source = source
    this.#options = options
    this.#recent = new RecentRecords(options.recentSize)
  }

  /** Changes when there is something new to read, or the head is reached. */
  get version(): number {
    return this.#recent.version
  }

  /** A commit may have added records. */
  notice(): void {
    this.#hasNews = true
    this.#wake()
  }

  /** The connection is a new one. It is checked at once: until then, readers may see records that the database has lost. */
  doubt(): void {
    if (this.#state === 'stopped') return
    this.#state = 'doubting'
    this.#recent.setUpToDate(false)
    this.notice()
  }

  /** A live reader begins. @returns a function to call when it ends */
  join(): () => void {
    this.#readers++
    if (!this.#running && !this.#closed) {
      this.#running = true
      void this.#run()
    }
    return () => {
      this.#readers--
      this.#lastLeft = performance.now()
    }
  }

  /** @returns the page after an offset, if all of it is in memory */
  read(filter: FeedFilter, after: string, limits: PageLimits): FeedPage | undefined {
    return this.#state === 'stopped' ? undefined : this.#recent.read(filter, after, limits)
  }

  /**
   * Waits for a record that matches, or until the head is reached if it is not.
   * @param after the offset that the reader has read up to
   * @param ms how long to wait at most
   * @param signal ends the wait
   * @param seen the version before the reader read: what was added since then may be new to it
   * @returns the offset to continue from: no record between `after` and it matches
   */
  wait(filter: FeedFilter, after: string, ms: number, signal: AbortSignal, seen: number): Promise<string> {
    if (signal.aborted || this.#recent.version !== seen) return Promise.resolve(after)
    return new Promise((resolve) => {
      const end = (upTo: string) => {
        clearTimeout(timer)
        signal.removeEventListener('abort', stop)
        leave()
        this.#behind.delete(end)
        resolve(upTo > after ? upTo : after)
      }
      const stop = () => end(after)
      const leave = this.#waiting.add(filter, (upTo, last) => {
        // A reader may be ahead: it has read these records from the database.
        if (last === undefined || last > after) end(upTo)
      })
      const timer = setTimeout(() => end(this.#announced), ms)
      signal.addEventListener('abort', stop)
      if (!this.#recent.upToDate) this.#behind.add(end)
    })
  }

  close(): void {
    this.#closed = true
    this.#wake()
  }

  async #run(): Promise<void> {
    let pauseMs = FIRST_PAUSE_MS
    while (!this.#closed && (this.#readers > 0 || performance.now() - this.#lastLeft < LINGER_MS)) {
      this.#hasNews = false
      try {
        const upToDate = await this.#step()
        pauseMs = FIRST_PAUSE_MS
        if (!upToDate) continue
        const restUntil = performance.now() + REST_MS
        if (!this.#hasNews) await this.#pause()
        const restMs = restUntil - performance.now()
        if (restMs > 0) await sleep(restMs, undefined, { ref: false })
      } catch (error) {
        if (pauseMs === FIRST_PAUSE_MS) this.#options.onError(error)
        this.doubt()
        await sleep(pauseMs, undefined, { ref: false })
        pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS)
      }
    }
    this.#state = 'stopped'
    this.#reset('')
    this.#running = false
  }

  /** @returns whether the head is reached */
  async #step(): Promise<boolean> {
    const { head } = this.#recent
    if (this.#state === 'stopped') {
      this.#reset(await this.#source.head())
      this.#recent.setUpToDate(true)
      this.#state = 'watching'
      this.#waiting.wakeAll(head)
      return false
    }
    if (this.#state === 'doubting') {
      // The check may open a connection, which is then doubted again.
      this.#state = 'watching'
      if (await this.#source.has(head)) return false
      this.#state = 'stopped'
      return false
    }
    const { records, next, upToDate } = await this.#source.read(head)
    if (this.#isDoubting()) return false
    this.#recent.add(records, next)
    this.#recent.setUpToDate(upToDate)
    await this.#waiting.wakeFor(records, head)
    this.#announced = next
    if (upToDate) for (const end of [...this.#behind]) end(next)
    return upToDate
  }

  /** A method, because the state may change during an await, which the compiler does not know. */
  #isDoubting(): boolean {
    return this.#state === 'doubting'
  }

  #reset(head: string): void {
    this.#recent.reset(head)
    this.#announced = head
  }

  async #pause(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#wake = resolve
    const timer = setTimeout(resolve, POLL_MS).unref()
    await promise
    clearTimeout(timer)
  }
}

import { setTimeout as sleep } from 'node:timers/promises'
import type { FeedFilter, FeedRecord } from './feed-record.ts'
import { type FeedPage, type PageLimits, RecentRecords } from './recent-records.ts'
import { WaitingReaders } from './waiting-readers.ts'

/**
 * The watcher follows the head of the feed for all live readers of this instance. It reads each new record once, keeps the newest
 * ones in memory, and wakes the readers that wait for one of them. So a waiting reader costs no query.
 *
 * It has three states:
 *
 * - stopped: no live reader exists, and for LINGER_MS there was none. Nothing is in memory.
 * - watching: all records between two offsets are in memory. It reads when it is told of a commit, and every POLL_MS.
 * - failing: the database is unavailable. The memory stays as it is, and readers wait. The first read that succeeds checks whether
 *   the database still has the history in memory. If it was set back, the memory is emptied and every reader reads from the database,
 *   where its own offset is checked.
 */

/** What the watcher needs of the database. All functions may throw. */
export interface FeedSource {
  head(): Promise<string>
  /** Reads the records after an offset, and the offset to continue from. */
  read(after: string): Promise<{ records: FeedRecord[]; next: string; upToDate: boolean }>
  /** Whether a reader can continue from this offset. */
  isValid(offset: string): Promise<boolean>
}

interface WatcherOptions {
  /** Memory for records, in characters. */
  recentSize: number
  /** Called when the database fails, and not again until it has worked. */
  onError: (error: unknown) => void
}

/** For commits that nobody reports, such as those of another instance behind a pooler. */
const POLL_MS = 500
const LINGER_MS = 10_000
const FIRST_PAUSE_MS = 50
const MAX_PAUSE_MS = 500

export class Watcher {
  readonly #source: FeedSource
  readonly #options: WatcherOptions
  readonly #recent: RecentRecords
  readonly #waiting = new WaitingReaders()
  #readers = 0
  #lastLeft = 0
  #state: 'stopped' | 'watching' | 'failing' = 'stopped'
  #running = false
  #closed = false
  #hasNews = false
  #wake = () => {}

  constructor(source: FeedSource, options: WatcherOptions) {
    this.#source = source
    this.#options = options
    this.#recent = new RecentRecords(options.recentSize)
  }

  /** Number of live readers. */
  get readers(): number {
    return this.#readers
  }

  /** A commit may have added records. */
  notice(): void {
    this.#hasNews = true
    this.#wake()
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
   * Waits for a record that matches.
   * @param after the head, when the reader last read
   * @param ms how long to wait at most
   * @param signal ends the wait
   * @returns the offset to continue from: no record between `after` and it matches
   */
  wait(filter: FeedFilter, after: string, ms: number, signal: AbortSignal): Promise<string> {
    if (signal.aborted || this.#recent.head > after) return Promise.resolve(after)
    return new Promise((resolve) => {
      const end = (upTo: string) => {
        clearTimeout(timer)
        signal.removeEventListener('abort', stop)
        leave()
        resolve(upTo > after ? upTo : after)
      }
      const stop = () => end(after)
      const leave = this.#waiting.add(filter, end)
      const timer = setTimeout(() => end(this.#recent.head), ms)
      signal.addEventListener('abort', stop)
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
        if (upToDate && !this.#hasNews) await this.#pause()
      } catch (error) {
        if (pauseMs === FIRST_PAUSE_MS) this.#options.onError(error)
        if (this.#state === 'watching') this.#state = 'failing'
        await sleep(pauseMs, undefined, { ref: false })
        pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS)
      }
    }
    this.#state = 'stopped'
    this.#recent.reset('')
    this.#running = false
  }

  /** @returns whether the head is reached */
  async #step(): Promise<boolean> {
    const { head } = this.#recent
    if (this.#state === 'failing' && !(await this.#source.isValid(head))) this.#state = 'stopped'
    if (this.#state === 'stopped') {
      this.#recent.reset(await this.#source.head())
      this.#state = 'watching'
      // What was committed between the offset of a reader and this head is not in memory.
      this.#waiting.wakeAll(head)
      return true
    }
    const { records, next, upToDate } = await this.#source.read(head)
    this.#state = 'watching'
    this.#recent.add(records, next)
    this.#waiting.wakeFor(records, head)
    return upToDate
  }

  async #pause(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#wake = resolve
    const timer = setTimeout(resolve, POLL_MS).unref()
    await promise
    clearTimeout(timer)
  }
}

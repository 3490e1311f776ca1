import { setTimeout as sleep } from 'node:timers/promises'
import { Problem } from '../problems.ts'
import type { Reader } from '../read/reader.ts'
import { retryDuringOutage } from '../read/retry.ts'
import type { FeedFilter } from './feed-record.ts'
import { readFeedPage } from './read-page.ts'
import { type FeedPage, type PageLimits, sizeOf } from './recent-records.ts'
import type { Watcher } from './watcher.ts'

/** A live reader. */
export interface Follower {
  watcher: Watcher
  reader: Reader
  filter: FeedFilter
  /** Where it begins. */
  after: string
  limits: PageLimits
  /** Memory of the page that the client has not taken yet. @throws Problem overloaded */
  reserve: (bytes: number) => void
  /** How long it waits for the database in an outage. */
  holdMs: number
  /** Ends it, after the page that it has begun. */
  end: AbortSignal
}

/** How long a follower is silent at most: proxies close connections on which nothing happens. */
const SILENCE_MS = 5_000
/** How long to wait for memory that other readers hold. */
const MEMORY_PAUSE_MS = 100

/**
 * Follows the feed: pages from memory, or from the database if the follower is further behind. When it is up to date it waits.
 * Each page is requested when the client has taken the previous one.
 * @returns pages. The first one may be empty, and each one after a silence, or that reaches the head; then only its offset is new
 * @throws Problem offset_ahead; the reason of the reader's signal
 */
export async function* follow(follower: Follower): AsyncGenerator<FeedPage> {
  const { watcher, filter, end, reserve } = follower
  let at = follower.after
  let spokenAt = Number.NEGATIVE_INFINITY
  let wasUpToDate = true
  while (!end.aborted) {
    const page = await readNext(follower, at)
    at = page.next
    const reachesHead = page.upToDate && !wasUpToDate
    if (page.records.length > 0 || reachesHead || performance.now() - spokenAt >= SILENCE_MS) {
      yield page
      reserve(0)
      spokenAt = performance.now()
      wasUpToDate = page.upToDate
    }
    if (page.upToDate && !end.aborted)
      at = await watcher.wait(filter, at, Math.max(spokenAt + SILENCE_MS - performance.now(), 0), end)
  }
}

/** All pages up to the head. The last one may be empty. @throws like `follow` */
export async function* catchUp(follower: Follower): AsyncGenerator<FeedPage> {
  for (let at = follower.after, upToDate = false; !upToDate; ) {
    const page = await readNext(follower, at)
    yield page
    follower.reserve(0)
    at = page.next
    upToDate = page.upToDate
  }
}

/**
 * Waits for one page.
 * @param waitMs how long, if the follower is up to date
 * @returns a page; without records, the wait is over
 * @throws Problem offset_ahead; the reason of the reader's signal
 */
export async function poll(follower: Follower, waitMs: number): Promise<FeedPage> {
  const { watcher, filter, end } = follower
  const deadline = performance.now() + waitMs
  for (let at = follower.after; ; ) {
    const page = await readNext(follower, at)
    if (page.records.length > 0 || end.aborted || performance.now() >= deadline) return page
    at = page.next
    if (page.upToDate) at = await watcher.wait(filter, at, deadline - performance.now(), end)
  }
}

/** From memory, or from the database. Waits for the database, and for memory: the response has begun, or should not fail. */
async function readNext({ watcher, reader, filter, limits, reserve, holdMs }: Follower, at: string): Promise<FeedPage> {
  const page = watcher.read(filter, at, limits)
  if (page !== undefined) {
    await whenFree(async () => reserve(page.records.reduce((sum, record) => sum + sizeOf(record), 0)), reader.signal)
    return page
  }
  const read = () => readFeedPage(reader, filter, at, limits, reserve)
  return retryDuringOutage(() => whenFree(read, reader.signal), holdMs, reader.signal)
}

async function whenFree<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
  for (;;) {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof Problem && error.code === 'overloaded')) throw error
    }
    await sleep(MEMORY_PAUSE_MS, undefined, { signal })
  }
}

import { setTimeout as sleep } from 'node:timers/promises'
import { offsetBefore } from '../data/record-line.ts'
import { settlesWithin } from '../lib/settles-within.ts'
import { Problem } from '../problems.ts'
import type { Reader } from '../read/reader.ts'
import { retryDuringOutage } from '../read/retry.ts'
import type { FeedFilter } from './feed-filter.ts'
import { readFeedPage, readHead } from './read-page.ts'
import type { FeedPage, PageLimits } from './recent-records.ts'
import type { Watcher } from './watcher.ts'

/** A reader whose response is a stream, or waits. */
export interface Follower {
  watcher: Watcher
  /** It is patient. Its signal ends the follower. */
  reader: Reader
  filter: FeedFilter
  /** Where it begins. */
  after: string
  limits: PageLimits
  /** Memory of the page that the client has not taken yet, in bytes. @throws Problem overloaded */
  reserve: (bytes: number) => void
  /** How long it waits for the database in an outage. */
  holdMs: number
}

/** How long a follower is silent at most: some proxies close connections on which nothing happens for ten seconds. */
const SILENCE_MS = 8_000
/** How long it is silent while it waits for the database or for memory: a read may begin after the longest silence. */
const READ_SILENCE_MS = 1_500
/** How long to wait for memory that other readers of the key hold. Those that do not read are cut off. */
const MEMORY_PAUSE_MS = 100

/**
 * Follows the feed: pages from memory, or from the database if the follower is further behind. When it is up to date it waits.
 * Each page is requested when the client has taken the previous one.
 * @returns pages, until the follower is ended. The first one may be empty, and each one after a silence
 * @throws Problem offset_ahead; what the database throws, after `holdMs`
 */
export async function* follow(follower: Follower): AsyncGenerator<FeedPage> {
  const { watcher, filter, reader, reserve } = follower
  const end = reader.signal
  let at = follower.after
  let spokenAt = Number.NEGATIVE_INFINITY
  let saidUpToDate: boolean | undefined
  while (!end.aborted) {
    const seen = watcher.version
    const reading = readNext(follower, at)
    while (!(await settlesWithin(reading, READ_SILENCE_MS)))
      yield { lines: '', next: at, upToDate: saidUpToDate ?? false, more: true }
    const page = await reading.catch((error) => {
      if (!end.aborted) throw error
    })
    if (page === undefined) return
    at = page.next
    const reachesHead = page.upToDate && saidUpToDate !== true
    if (page.lines !== '' || reachesHead || performance.now() - spokenAt >= SILENCE_MS) {
      yield page
      reserve(0)
      spokenAt = performance.now()
      saidUpToDate = page.upToDate
    }
    if (!page.more)
      at = await watcher.wait(filter, at, Math.max(spokenAt + SILENCE_MS - performance.now(), 0), end, seen)
  }
}

/**
 * All records up to a head, page by page. While the client takes a page, the next one is read.
 * @param until the head
 * @throws like `follow`; the reason of the reader's signal
 */
export async function* catchUp(follower: Follower, until: string): AsyncGenerator<FeedPage> {
  /** The sizes of the page that the client takes, and of the next one. */
  let [taken, ahead] = [0, 0]
  const reserve = (bytes: number) => {
    follower.reserve(taken + bytes)
    ahead = bytes
  }
  const read = (at: string) => {
    const reading = readNext({ ...follower, reserve }, at, until)
    // If it fails before it is awaited, the process would end.
    reading.catch(() => {})
    return reading
  }
  // An offset beyond the head is read as well, because that checks it.
  let reading = follower.after === until ? undefined : read(follower.after)
  while (reading !== undefined) {
    const page = await reading
    ;[taken, ahead] = [ahead, 0]
    const isLast = page.upToDate || page.next >= until
    reading = isLast ? undefined : read(page.next)
    const lines = cutAfter(page.lines, until)
    if (lines !== '') yield { ...page, lines }
    taken = 0
    follower.reserve(ahead)
  }
}

/**
 * Waits for one page.
 * @param waitMs how long, if the follower is up to date
 * @returns a page; without records, the wait is over, or the follower is ended
 * @throws Problem offset_ahead, overloaded; what the database throws, after `holdMs`
 */
export async function poll({ watcher, filter, ...follower }: Follower, waitMs: number): Promise<FeedPage> {
  const { reader, limits, reserve, holdMs } = follower
  const end = reader.signal
  const deadline = performance.now() + waitMs
  for (let at = follower.after; ; ) {
    const seen = watcher.version
    const read = () => readFeedPage(reader, filter, at, limits, reserve)
    const page = watcher.read(filter, at, limits) ?? (await retryDuringOutage(read, holdMs, end))
    if (page.lines !== '' || end.aborted || performance.now() >= deadline) return page
    at = page.next
    if (!page.more) at = await watcher.wait(filter, at, deadline - performance.now(), end, seen)
    if (end.aborted) return { lines: '', next: at, upToDate: page.upToDate, more: false }
  }
}

/** The lines up to an offset. */
function cutAfter(lines: string, offset: string): string {
  let end = lines.length
  while (end > 0 && offsetBefore(lines, end) > offset) end = lines.lastIndexOf('\n', end - 2) + 1
  return lines.slice(0, end)
}

/** The head. Waits for the database in an outage. */
export const awaitHead = (reader: Reader, holdMs: number): Promise<string> =>
  retryDuringOutage(() => readHead(reader), holdMs, reader.signal)

/**
 * From memory, or from the database. Waits for the database, and for memory.
 * @param until a head that was read from the database. If the watcher has not heard of it yet, the rest is not in memory
 */
async function readNext(follower: Follower, at: string, until = ''): Promise<FeedPage> {
  const { watcher, reader, filter, limits, reserve, holdMs } = follower
  const page = watcher.read(filter, at, limits)
  if (page !== undefined && (page.more || page.next >= until)) {
    await whenFree(async () => reserve(Buffer.byteLength(page.lines)), reader.signal)
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

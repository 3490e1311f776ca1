import { readFeed, START, selectHead } from '../data/read-feed.ts'
import { offsetBefore } from '../data/record-line.ts'
import { decodeOffset, encodeOffset, type Position } from '../lib/offset.ts'
import { refuseInvalidOffset } from '../read/check-offset.ts'
import { inTurn, type Reader } from '../read/reader.ts'
import type { FeedFilter } from './feed-filter.ts'
import type { FeedPage, PageLimits } from './recent-records.ts'

/** The offset before the first record. */
export const START_OFFSET = encodeOffset(START)

/**
 * Reads a page of the feed from the database. The page may be empty although matching records follow: a statement examines a limited
 * number of records.
 * @param after an offset that is known to be well-formed
 * @param reserve called with the size of the page, in bytes
 * @throws Problem offset_ahead, overloaded; the reason of the reader's signal; what `reserve` throws
 */
export async function readFeedPage(
  reader: Reader,
  { selection }: FeedFilter,
  after: string,
  limits: PageLimits,
  reserve: (bytes: number) => void,
): Promise<FeedPage> {
  const { db, signal } = reader
  const position = decodeOffset(after) as Position
  const { lines, next, upToDate, isHead } = await inTurn(reader, () =>
    readFeed(db, { filter: selection, after: position, ...limits }, signal),
  )
  reserve(Buffer.byteLength(lines))
  const first = decodeOffset(offsetBefore(lines, lines.indexOf('\n') + 1))
  if (after !== START_OFFSET && !isHead) await refuseInvalidOffset(position, first?.epoch, reader)
  return { lines, next: encodeOffset(next), upToDate, more: !upToDate }
}

/** How long a request looks for a record that matches, before it returns an empty page. */
const SEARCH_MS = 2_000

/** Like `readFeedPage`, but examines more records until one matches. */
export async function readCatchUpPage(...[reader, filter, after, ...rest]: Parameters<typeof readFeedPage>) {
  const end = performance.now() + SEARCH_MS
  for (let at = after; ; ) {
    const page = await readFeedPage(reader, filter, at, ...rest)
    if (page.lines !== '' || page.upToDate || performance.now() > end) return page
    at = page.next
  }
}

/** @returns the offset of the head. @throws Problem overloaded; the reason of the reader's signal */
export const readHead = async (reader: Reader): Promise<string> =>
  encodeOffset(await inTurn(reader, () => selectHead(reader.db, reader.signal)))

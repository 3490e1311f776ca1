import { pick, type Wanted } from '../lib/json/pick.ts'
import type { FeedQuery } from '../schemas/feed.ts'
import { request } from './request.ts'
import type { Attempt } from './retry.ts'
import { notSluiceError, type Server, TryAgain } from './server.ts'

/** The parameters of GET /v1/feed that select records. */
export type FeedFilter = Pick<FeedQuery, 'source' | 'sourcePrefix' | 'type' | 'subject'>

export interface FeedRecord {
  /** JSON on one line, as the feed gives it. */
  text: string
  /** The offset of the record. */
  cursor: string
}

export interface FeedPage {
  records: FeedRecord[]
  /** The offset to continue from. */
  next: string
}

export interface Following {
  server: Server
  filter: FeedFilter
  /** The offset to begin at. */
  after: string
  /** Maximum number of records; Infinity: all, without end. */
  limit: number
  attempt: Attempt
  /** Ends a request. */
  stop: AbortSignal
}

/** The most that the server allows. */
const PAGE_RECORDS = 1000

/**
 * Follows the feed: pages up to its end, then long-polls, which wait for records. The next page is requested when the caller has processed
 * the last one, so memory has one page, and a caller that stops does not keep a reader of the server waiting.
 * @throws what `attempt` throws
 */
export async function* followFeed({ server, filter, attempt, stop, ...bounds }: Following): AsyncGenerator<FeedPage> {
  let isLive = false
  for (let { after, limit } = bounds; limit > 0; ) {
    const query = toQuery(filter)
    query.set('offset', after)
    query.set('limit', String(Math.min(limit, PAGE_RECORDS)))
    if (isLive) query.set('live', 'long-poll')
    const { upToDate, ...page } = await attempt(() => readPage(server, query, stop))
    yield page
    after = page.next
    limit -= page.records.length
    isLive = upToDate
  }
}

/** The offset of the end of the feed. */
export const readHead = async (server: Server, stop: AbortSignal): Promise<string> =>
  (await readPage(server, new URLSearchParams({ offset: 'now' }), stop)).next

function toQuery({ type = [], ...filter }: FeedFilter): URLSearchParams {
  const query = new URLSearchParams(Object.entries(filter).filter(([, value]) => value !== undefined))
  for (const one of type) query.append('type', one)
  return query
}

/** @throws TryAgain, Refused; Error if the response does not come from Sluice */
async function readPage(
  server: Server,
  query: URLSearchParams,
  stop: AbortSignal,
): Promise<FeedPage & { upToDate: boolean }> {
  // By default, fetch requests gzip, which costs the server several times as much processor time as zstd.
  const headers = { accept: 'application/json', 'accept-encoding': 'zstd, gzip;q=0.5' }
  const { status, headers: received, text } = await request(server, `/v1/feed?${query}`, { headers }, stop)
  const next = received.get('stream-next-offset')
  if (next === null) throw notSluiceError(server.url, `${status} without Stream-Next-Offset`)
  const records = status === 204 ? [] : readRecords(text, server.url)
  return { records, next, upToDate: received.get('stream-up-to-date') === 'true' }
}

/** The records of an array. Their texts are kept: JSON.parse would round numbers. */
function readRecords(array: string, url: string): FeedRecord[] {
  let parsed: { cursor: string }[]
  try {
    parsed = JSON.parse(array)
  } catch (cause) {
    // A proxy that speaks HTTP/1.0 ends a response that broke off like a complete one.
    throw new TryAgain(`The response of ${url} is not complete`, { cause })
  }
  const texts: (string | null)[] = []
  pick(array, new Map<string, Wanted>(parsed.map((_, at) => [String(at), at])), texts)
  return parsed.map(({ cursor }, at) => ({ text: texts[at] as string, cursor }))
}

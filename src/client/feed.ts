import { pick, type Wanted } from '../lib/json/pick.ts'
import type { FeedQuery } from '../schemas/feed.ts'
import { request } from './request.ts'
import type { Attempt } from './retry.ts'
import { notSluiceError, readJson, type Server } from './server.ts'

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

/** @throws TryAgain, Refused, NotSluice */
async function readPage(
  server: Server,
  query: URLSearchParams,
  stop: AbortSignal,
): Promise<FeedPage & { upToDate: boolean }> {
  // By default, fetch requests gzip, which costs the server several times as much processor time as zstd.
  const headers = { accept: 'application/json', 'accept-encoding': 'zstd, gzip;q=0.5' }
  const answer = await request(server, `/v1/feed?${query}`, { headers }, stop)
  const next = answer.headers.get('stream-next-offset')
  if (next === null) throw notSluiceError(server.url, `${answer.status} without Stream-Next-Offset`)
  const parsed = answer.status === 204 ? [] : (readJson(answer, answer.text, server.url) as ParsedRecord[])
  return {
    records: keepTexts(answer.text, parsed),
    next,
    upToDate: answer.headers.get('stream-up-to-date') === 'true',
  }
}

interface ParsedRecord {
  cursor: string
}

/** The records of an array with their texts: JSON.parse rounds numbers. */
function keepTexts(array: string, parsed: ParsedRecord[]): FeedRecord[] {
  const texts: (string | null)[] = []
  pick(array, new Map<string, Wanted>(parsed.map((_, at) => [String(at), at])), texts)
  return parsed.map(({ cursor }, at) => ({ text: texts[at] as string, cursor }))
}

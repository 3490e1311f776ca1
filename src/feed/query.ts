import type { Key } from '../access/key.ts'
import { nearest } from '../lib/nearest.ts'
import { decodeOffset } from '../lib/offset.ts'
import { quoted } from '../lib/quoted.ts'
import { invalidParameter, refuseParameter } from '../read/refuse-parameter.ts'
import { type FeedQuery, FeedQuerySchema } from '../schemas/feed.ts'
import { ListQuerySchema } from '../schemas/list.ts'
import { type FeedFilter, toFilter } from './feed-filter.ts'
import { START_OFFSET } from './read-page.ts'

/** @throws Problem invalid_query */
export function readFeedFilter({ source, sourcePrefix, type, subject }: FeedQuery, key: Key): FeedFilter {
  for (const [name, value] of Object.entries({ source, sourcePrefix, type: type?.join(''), subject }))
    if (value?.includes('\0')) refuseParameter(name, 'contains U+0000 (%00), which no record can contain. Remove it')
  return toFilter({ source, sourcePrefix, types: type, subject, allowedPrefixes: key.sourcePrefixes })
}

/**
 * Where a reader begins (Durable Streams 1.0, section 6).
 * @param lastEventId what a browser's EventSource sends when it reconnects. It wins, because the URL is still that of the first request
 * @returns an offset, or `now`
 * @throws Problem invalid_query, invalid_offset
 */
export function readStart({ offset, live }: FeedQuery, lastEventId: string | undefined): string {
  const resumes = live === 'sse' && lastEventId !== undefined && lastEventId !== ''
  if (!resumes && offset === undefined && (live === 'sse' || live === 'long-poll'))
    refuseParameter('offset', `is missing. With live=${live}, write offset=-1 for the start, or offset=now`)
  return resumes ? checkOffset('Last-Event-ID', lastEventId) : checkOffset('offset', offset ?? '-1')
}

/**
 * @param name of the parameter or field, for the message
 * @returns an offset, or `now`
 * @throws Problem invalid_offset
 */
export function checkOffset(name: string, offset: string): string {
  if (offset === '-1') return START_OFFSET
  if (offset === 'now') return offset
  if (decodeOffset(offset) !== undefined) return offset
  return refuseParameter(
    name,
    'is not an offset of this service, or was damaged. Use the value of Stream-Next-Offset or the cursor of a record, -1 for the start, or now',
    'invalid_offset',
  )
}

const NAMES = Object.keys(FeedQuerySchema.properties)

/** Those of GET /v1/records that the feed lacks. */
const OF_LISTS = Object.keys(ListQuerySchema.properties).filter((name) => !NAMES.includes(name))

/** What other APIs call these parameters. */
const ALIASES: Record<string, string> = {
  from: 'offset',
  since: 'offset',
  start: 'offset',
  after: 'offset',
  position: 'offset',
  page: 'offset',
  next: 'offset',
  lasteventid: 'offset',
  prefix: 'sourcePrefix',
  wait: 'timeout',
  follow: 'live',
  tail: 'live',
  stream: 'live',
  size: 'limit',
  sinceid: 'offset',
  filter: 'jsonpath',
  query: 'jsonpath',
  where: 'jsonpath',
  q: 'jsonpath',
}

/**
 * Unknown parameters are ignored (Durable Streams 1.0, section 9.1), but not those that look like a mistake: without its filter, a
 * reader would get the records of all sources. Then checks what the schema of the query cannot check.
 * @throws Problem invalid_query
 */
export function checkQuery(query: FeedQuery, isLines: boolean): void {
  for (const name of Object.keys(query)) {
    const meant = NAMES.includes(name) ? undefined : nearest(name, [...NAMES, ...OF_LISTS], ALIASES)
    if (meant === undefined) continue
    const advice = OF_LISTS.includes(meant)
      ? `GET /v1/records has ${meant}.`
      : `Did you mean ${meant}? The parameters are ${NAMES.join(', ')}.`
    throw invalidParameter(name, `The feed has no parameter ${quoted(name)}. ${advice}`)
  }
  const { live, timeout, limit } = query
  if (live === 'true' && !isLines)
    refuseParameter('live', 'is true, which is for lines: send Accept: application/x-ndjson, or use long-poll or sse')
  if (timeout !== undefined && live !== 'long-poll') refuseParameter('timeout', 'is only possible with live=long-poll')
  if (limit !== undefined && (live === 'sse' || isLines))
    refuseParameter('limit', 'is only possible for pages and with live=long-poll')
}

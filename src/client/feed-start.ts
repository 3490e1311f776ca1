import { parseTime } from '../lib/rfc3339.ts'
import { timeHint } from '../lib/time-hint.ts'
import { type FeedFilter, readHead, toQuery } from './feed.ts'
import { request } from './request.ts'
import type { Server } from './server.ts'

/** The start of the feed. */
const START = '-1'

/** Offsets are long. What is in them may change, and the server checks it. */
const OFFSET = /^\w{20,}$/

/** Finds an offset to begin at. */
export type Start = (server: Server, filter: FeedFilter, stop: AbortSignal) => Promise<string>

/** Reads where to begin: `start`, `now`, a time or an offset. @throws Error with a sentence if it is something else */
export function readStart(text: string): Start {
  if (text === 'start' || text === START) return async () => START
  if (text === 'now') return (server, _filter, stop) => readHead(server, stop)
  if (OFFSET.test(text)) return async () => text
  const time = parseTime(text)
  if ('utc' in time) return (server, filter, stop) => offsetBefore(time.utc, server, filter, stop)
  throw new Error(
    `--from must be start, now, an offset such as the cursor of a record, or an RFC 3339 time such as 2026-01-31T12:00:00Z.${timeHint(text)}`,
  )
}

/**
 * The offset before all records that were received at this time or later. In the feed, a record may be after one that was received some
 * milliseconds later. So this is before the first record, in the order of the feed, that was received then or later.
 */
async function offsetBefore(utc: string, server: Server, filter: FeedFilter, stop: AbortSignal): Promise<string> {
  // Before the search: a record that is added during it is after this offset.
  const head = await readHead(server, stop)
  const [type, ...others] = filter.type ?? []
  const query = toQuery({ ...filter, type: type === undefined || others.length > 0 ? [] : [type] })
  query.set('receivedFrom', utc)
  query.set('order', 'asc')
  const first = await findCursor(query)
  if (first === undefined) return head
  // Up to the first one the feed is settled: no record will be added between the previous one and it.
  return (await findCursor(new URLSearchParams({ cursor: first, order: 'desc' }))) ?? START

  async function findCursor(query: URLSearchParams): Promise<string | undefined> {
    query.set('limit', '1')
    query.set('fields', 'cursor')
    const { text } = await request(server, `/v1/records?${query}`, { headers: { accept: 'application/json' } }, stop)
    return JSON.parse(text).records[0]?.cursor
  }
}

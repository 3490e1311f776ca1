import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Shape } from '../feed/formats.ts'
import type { FeedPage } from '../feed/recent-records.ts'
import { streamCursor } from '../feed/stream-cursor.ts'
import type { FeedQuery } from '../schemas/feed.ts'

/** Durable Streams 1.0, section 10.7. No browser should take a record for a page or a script. */
export const HEADERS = {
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'cross-origin-resource-policy': 'same-origin',
}

/** The headers of a page (Durable Streams 1.0, sections 5.5 and 5.6). */
export function describe(reply: FastifyReply, { next, upToDate }: FeedPage, query: FeedQuery): FastifyReply {
  reply.headers({ 'stream-next-offset': next, 'stream-cursor': streamCursor(query.cursor) })
  return upToDate ? reply.header('stream-up-to-date', 'true') : reply
}

/**
 * The same range of records is another page in another form. And a page that ended at the head may be a full page later: a client that
 * got 304 would still have Stream-Up-To-Date.
 */
export const tagOf = ({ next, upToDate }: FeedPage, after: string, shape: Shape) =>
  `W/"${after}-${next}-${shape}${upToDate ? '-head' : ''}"`

/** Sets the ETag, and compares it with If-None-Match (RFC 9110, section 13.1.2). */
export function isCached({ headers }: FastifyRequest, reply: FastifyReply, tag: string): boolean {
  reply.header('etag', tag)
  const tags = headers['if-none-match']?.split(',').map((one) => one.trim())
  return tags?.some((one) => one === '*' || one.replace(/^(?:W\/)?/, 'W/') === tag) ?? false
}

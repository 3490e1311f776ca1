import { Readable } from 'node:stream'
import compress from '@fastify/compress'
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import type { Key } from '../access/key.ts'
import type { Shape } from '../feed/feed-record.ts'
import { catchUp, type Follower, follow, poll } from '../feed/follow.ts'
import { toEvents, toJson, toLines } from '../feed/formats.ts'
import { checkQuery, readFeedFilter, readStart } from '../feed/query.ts'
import { readCatchUpPage, readHead } from '../feed/read-page.ts'
import type { FeedPage } from '../feed/recent-records.ts'
import { streamCursor } from '../feed/stream-cursor.ts'
import type { Reading } from '../plugins/response-memory.ts'
import { Problem } from '../problems.ts'
import { readLimit } from '../read/filter.ts'
import type { Reader } from '../read/reader.ts'
import { retryDuringOutage } from '../read/retry.ts'
import { FEED_SCHEMA, type FeedQuery } from '../schemas/feed.ts'
import { MAX_LIMIT } from '../schemas/list.ts'
import { LINE_TYPES } from '../schemas/media-types.ts'
import { COMPRESSION, compressorBytes } from './compression.ts'
import { negotiate, negotiateEncoding, VARY } from './negotiate.ts'
import { checkKeyAgain, logBreak, whileReading } from './while-reading.ts'

const PAGE_TYPES = ['application/json', 'application/cloudevents-batch+json'] as const
const TYPES = ['application/json', ...LINE_TYPES, 'application/cloudevents-batch+json'] as const

/** In bytes. A page of the catch-up is for one request; a live reader has one page in memory while its client does not read. */
const CATCH_UP_BYTES = 1024 * 1024
const LIVE_BYTES = 128 * 1024
/** In seconds. */
const DEFAULT_WAIT = 30
/** A stream of events ends after about this time, and its client reconnects: Durable Streams 1.0, section 8.2. */
const EVENTS_MS = 60_000

/** Durable Streams 1.0, section 10.7. No browser should take a record for a page or a script. */
const HEADERS = {
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'cross-origin-resource-policy': 'same-origin',
}

type Request = FastifyRequest<{ Querystring: FeedQuery }>

/** GET and HEAD /v1/feed: the read half of Durable Streams 1.0. */
const routes: FastifyPluginAsync = async (app) => {
  const holdMs = app.config.OUTAGE_HOLD_SECONDS * 1000
  const { watcher, readers, ending } = app.feed
  const [db, semaphore] = [app.db.feed, app.semaphores.feed]
  const readerOf = (request: FastifyRequest, signal: AbortSignal): Reader => {
    return { db, primary: { db, semaphore }, semaphore, key: request.key as Key, signal }
  }
  await app.register(compress, { global: false, globalDecompression: false })

  app.get<{ Querystring: FeedQuery }>('/v1/feed', {
    schema: FEED_SCHEMA,
    compress: COMPRESSION,
    config: { shed: 'read' },
    exposeHeadRoute: false,
    onRequest: app.requireScope('read'),
    handler: whileReading<{ Querystring: FeedQuery }>(async (request, reply, reading) => {
      const { query } = request
      reply.headers({ ...HEADERS, vary: `${VARY}, authorization` })
      const types = query.live === 'long-poll' ? PAGE_TYPES : TYPES
      const type = query.live === 'sse' ? 'text/event-stream' : negotiate(request, types)
      const isLines = (LINE_TYPES as readonly string[]).includes(type)
      checkQuery(query, isLines)
      const allowsIdentity = negotiateEncoding(request, query.live === undefined ? 'compressed' : 'identity')
      const reader = readerOf(request, reading.signal)
      const filter = readFeedFilter(query, reader.key)
      const start = readStart(query, request.headers['last-event-id'] as string | undefined)
      const limits = {
        limit: query.limit === undefined ? MAX_LIMIT : readLimit(query.limit),
        maxBytes: query.live === undefined && !isLines ? CATCH_UP_BYTES : LIVE_BYTES,
      }
      const shape = type === 'application/cloudevents-batch+json' ? 'cloudevent' : 'record'
      const sendPage = (page: FeedPage) => {
        const body = toJson(page, shape)
        if (request.headers['accept-encoding'] !== undefined) reading.reserve(body.length + compressorBytes(request))
        // The library compresses a stream of any length, but not a short text.
        return reply.type(type).send(allowsIdentity ? body : Readable.from([body]))
      }

      if (query.live === undefined && !isLines) {
        const after = start === 'now' ? await readHead(reader) : start
        const page: FeedPage =
          start === 'now'
            ? { records: [], next: after, upToDate: true }
            : await readCatchUpPage(reader, filter, after, limits, reading.reserve)
        checkKeyAgain(request)
        describe(reply, page, query)
        if (start === 'now') return sendPage(page)
        if (!page.upToDate) reply.header('cache-control', 'private, max-age=60, stale-while-revalidate=300')
        return isCached(request, reply, tagOf(page, after, shape)) ? reply.code(304).send() : sendPage(page)
      }

      const live = query.live !== undefined && enter(request, reading)
      const after = start === 'now' ? await retryDuringOutage(() => readHead(reader), holdMs, reading.signal) : start
      const { signal } = reading
      const reserve = (bytes: number) => reading.reserve(bytes + compressorBytes(request))
      const follower: Follower = { watcher, reader, filter, after, limits, reserve, holdMs, end: signal }
      if (live === false) return sendLines(request, reply, catchUp(follower), type)
      if (query.live === 'long-poll') {
        const lost = app.watchKey(request, 'read')
        const end = AbortSignal.any([signal, ending, lost])
        const page = await poll({ ...follower, end }, (query.timeout ?? DEFAULT_WAIT) * 1000)
        lost.throwIfAborted()
        signal.throwIfAborted()
        describe(reply, page, query)
        if (page.records.length > 0 || !page.upToDate) return sendPage(page)
        return reply.code(204).send()
      }
      if (isLines)
        return sendLines(request, reply, follow({ ...follower, end: AbortSignal.any([signal, ending]) }), type)
      reply.header('cache-control', 'no-cache, no-store')
      const end = AbortSignal.any([signal, ending, AbortSignal.timeout(EVENTS_MS)])
      const events = toEvents(follow({ ...follower, end }), () => streamCursor(query.cursor))
      return sendStream(request, reply, events, type)
    }),
  })

  app.head('/v1/feed', {
    schema: { hide: true },
    config: { shed: 'read' },
    onRequest: app.requireScope('read'),
    handler: whileReading(async (request, reply, { signal }) => {
      const next = await readHead(readerOf(request, signal))
      return reply
        .headers({ ...HEADERS, 'stream-next-offset': next })
        .type('application/json')
        .send()
    }),
  })

  /** Counts a live reader until its response is complete. @throws Problem draining, overloaded; the reason of the signal */
  function enter(request: FastifyRequest, { signal }: Reading): true {
    signal.throwIfAborted()
    if (ending.aborted)
      throw new Problem('draining', 'This instance is shutting down; send the request again.', {
        headers: { connection: 'close' },
      })
    const leaveLimit = readers.enter((request.key as Key).id)
    const leaveWatcher = watcher.join()
    signal.addEventListener('abort', leaveLimit)
    signal.addEventListener('abort', leaveWatcher)
    return true
  }
}

export default routes

/** The headers of a page (Durable Streams 1.0, sections 5.5 and 5.6). */
function describe(reply: FastifyReply, { next, upToDate }: FeedPage, query: FeedQuery): void {
  reply.headers({ 'stream-next-offset': next, 'stream-cursor': streamCursor(query.cursor) })
  if (upToDate) reply.header('stream-up-to-date', 'true')
}

/**
 * The same range of records is another page in another form. And a page that ended at the head may be a full page later: a client that
 * got 304 would still have Stream-Up-To-Date.
 */
const tagOf = ({ next, upToDate }: FeedPage, after: string, shape: Shape) =>
  `W/"${after}-${next}-${shape}${upToDate ? '-head' : ''}"`

/** Sets the ETag, and compares it with If-None-Match (RFC 9110, section 13.1.2). */
function isCached({ headers }: FastifyRequest, reply: FastifyReply, tag: string): boolean {
  reply.header('etag', tag)
  const tags = headers['if-none-match']?.split(',').map((one) => one.trim())
  return tags?.some((one) => one === '*' || one.replace(/^(?:W\/)?/, 'W/') === tag) ?? false
}

const sendLines = (request: Request, reply: FastifyReply, pages: AsyncIterable<FeedPage>, type: string) =>
  sendStream(request, reply, toLines(pages), `${type}; charset=utf-8`)

function sendStream(request: Request, reply: FastifyReply, chunks: AsyncIterable<Buffer>, type: string): FastifyReply {
  reply.cutOffWithKey('read')
  // Tells nginx to pass each chunk on at once.
  reply.header('x-accel-buffering', 'no')
  const logged = logBreak(chunks, request, 'a response of the feed broke off')
  return reply.type(type).send(Readable.from(logged, { highWaterMark: 0 }))
}

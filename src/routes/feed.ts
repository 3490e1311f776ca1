import { Readable } from 'node:stream'
import compress from '@fastify/compress'
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import type { Key } from '../access/key.ts'
import type { FeedFilter } from '../feed/feed-filter.ts'
import { awaitHead, catchUp, follow, poll } from '../feed/follow.ts'
import { type Shape, toEvents, toJson, toLines } from '../feed/formats.ts'
import { checkQuery, readFeedFilter, readStart } from '../feed/query.ts'
import { readCatchUpPage, readHead } from '../feed/read-page.ts'
import type { FeedPage, PageLimits } from '../feed/recent-records.ts'
import { streamCursors } from '../feed/stream-cursor.ts'
import type { Reading } from '../plugins/response-memory.ts'
import { Problem } from '../problems.ts'
import { readLimit } from '../read/filter.ts'
import type { Reader } from '../read/reader.ts'
import { FEED_SCHEMA, type FeedQuery } from '../schemas/feed.ts'
import { MAX_LIMIT } from '../schemas/list.ts'
import { LINE_TYPES } from '../schemas/media-types.ts'
import { COMPRESSION, compressorBytes } from './compression.ts'
import { describe, HEADERS, isCached, tagOf } from './feed-headers.ts'
import { negotiate, negotiateEncoding, VARY } from './negotiate.ts'
import { checkKeyAgain, logBreak, whileReading } from './while-reading.ts'

const PAGE_TYPES = ['application/json', 'application/cloudevents-batch+json'] as const
const TYPES = ['application/json', ...LINE_TYPES, 'application/cloudevents-batch+json'] as const

/** In bytes. */
const PAGE_BYTES = 1024 * 1024
/**
 * Of the parts of a stream, and for long-poll: there may be many live readers, and each has a page in memory while its client does not
 * read. Larger parts are no faster, and only a full garbage collection frees their texts.
 */
const PART_BYTES = 128 * 1024
/** In seconds. */
const DEFAULT_WAIT = 30
/** A stream of events ends after about this time, and its client reconnects: Durable Streams 1.0, section 8.2. */
const EVENTS_MS = 60_000

type Request = FastifyRequest<{ Querystring: FeedQuery }>

/** What a request asks for. */
interface Asked {
  type: string
  isLines: boolean
  shape: Shape
  filter: FeedFilter
  /** An offset, or `now`. */
  start: string
  limits: PageLimits
}

/** GET and HEAD /v1/feed: the read half of Durable Streams 1.0. */
const routes: FastifyPluginAsync = async (app) => {
  const holdMs = app.config.OUTAGE_HOLD_SECONDS * 1000
  const { watcher, readers, memory, ending } = app.feed
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
      reply.headers({ ...HEADERS, vary: `${VARY}, authorization` })
      const asked = readRequest(request)
      const { live } = request.query
      if (live === 'long-poll') return sendPolled(request, reply, reading, asked)
      if (live !== undefined) return sendLive(request, reply, reading, asked)
      return asked.isLines ? sendLines(request, reply, reading, asked) : sendPage(request, reply, reading, asked)
    }),
  })

  app.head('/v1/feed', {
    schema: { hide: true },
    config: { shed: 'read' },
    onRequest: app.requireScope('read'),
    handler: whileReading(async (request, reply, { signal }) => {
      const next = await readHead(readerOf(request, signal))
      reply.headers({ ...HEADERS, 'stream-next-offset': next })
      return reply.type('application/json').send()
    }),
  })

  /** A page of the catch-up. */
  async function sendPage(
    request: Request,
    reply: FastifyReply,
    reading: Reading,
    asked: Asked,
  ): Promise<FastifyReply> {
    const { start, filter, limits, shape } = asked
    const allowsIdentity = negotiateEncoding(request, 'compressed')
    const reader = readerOf(request, reading.signal)
    if (start === 'now') {
      const next = await readHead(reader)
      checkKeyAgain(request)
      return sendJson(request, reply, reading, asked, { lines: '', next, upToDate: true, more: false }, allowsIdentity)
    }
    const page = await readCatchUpPage(reader, filter, start, limits, reading.reserve)
    checkKeyAgain(request)
    if (!page.upToDate) reply.header('cache-control', 'private, max-age=60, stale-while-revalidate=300')
    if (isCached(request, reply, tagOf(page, start, shape)))
      return describe(reply, page, request.query).code(304).send()
    return sendJson(request, reply, reading, asked, page, allowsIdentity)
  }

  /** Long-poll. */
  async function sendPolled(
    request: Request,
    reply: FastifyReply,
    reading: Reading,
    asked: Asked,
  ): Promise<FastifyReply> {
    const allowsIdentity = negotiateEncoding(request, 'identity')
    enter(request, reading)
    const lost = app.watchKey(request, 'read')
    const signal = AbortSignal.any([reading.signal, ending, lost])
    const reader = readerOf(request, signal)
    const after = asked.start === 'now' ? await awaitHead(reader, holdMs) : asked.start
    const { reserve } = reading
    const follower = { watcher, reader, ...asked, after, reserve, holdMs }
    const page = await poll(follower, (request.query.timeout ?? DEFAULT_WAIT) * 1000)
    lost.throwIfAborted()
    reading.signal.throwIfAborted()
    if (page.lines === '' && page.upToDate) return describe(reply, page, request.query).code(204).send()
    return sendJson(request, reply, reading, asked, page, allowsIdentity)
  }

  function sendJson(
    request: Request,
    reply: FastifyReply,
    { reserve }: Reading,
    { shape, type }: Asked,
    page: FeedPage,
    allowsIdentity: boolean,
  ): FastifyReply {
    const body = toJson(page, shape)
    // A page from the memory of the watcher takes none until here.
    reserve(body.length + compressorBytes(request))
    // The library compresses a stream of any length, but not a short text.
    return describe(reply, page, request.query)
      .type(type)
      .send(allowsIdentity ? body : Readable.from([body]))
  }

  /** Lines up to the head. */
  async function sendLines(
    request: Request,
    reply: FastifyReply,
    reading: Reading,
    asked: Asked,
  ): Promise<FastifyReply> {
    negotiateEncoding(request, 'compressed')
    const reader = { ...readerOf(request, reading.signal), isPatient: true }
    const head = await readHead(reader)
    const after = asked.start === 'now' ? head : asked.start
    const reserve = (bytes: number) => reading.reserve(bytes + compressorBytes(request))
    const follower = { watcher, reader, ...asked, after, reserve, holdMs }
    reply.header('stream-next-offset', after > head ? after : head)
    return sendStream(request, reply, toLines(catchUp(follower, head)), `${asked.type}; charset=utf-8`)
  }

  /** Events, or lines without end. */
  async function sendLive(
    request: Request,
    reply: FastifyReply,
    reading: Reading,
    asked: Asked,
  ): Promise<FastifyReply> {
    // A compressor would keep records back until it has enough of them.
    if (!negotiateEncoding(request, 'identity'))
      throw new Problem(
        'not_acceptable',
        'Live responses are not compressed. Allow identity in Accept-Encoding, or omit the header.',
      )
    // An EventSource does not try again after any other status.
    if (!asked.isLines && ending.aborted)
      return reply.type(asked.type).header('connection', 'close').send('retry: 1000\n\n')
    enter(request, reading)
    const limit = asked.isLines ? [] : [AbortSignal.timeout(EVENTS_MS)]
    const signal = AbortSignal.any([reading.signal, ending, ...limit])
    const reader = { ...readerOf(request, signal), isPatient: true }
    const after = asked.start === 'now' ? await awaitHead(reader, holdMs) : asked.start
    const reserve = memory.openReservation(reader.key.id)
    reading.signal.addEventListener('abort', () => reserve(0))
    reading.signal.throwIfAborted()
    const pages = follow({ watcher, reader, ...asked, after, reserve, holdMs })
    if (asked.isLines) return sendStream(request, reply, toLines(pages), `${asked.type}; charset=utf-8`)
    reply.header('cache-control', 'no-cache, no-store')
    return sendStream(request, reply, toEvents(pages, streamCursors(request.query.cursor)), asked.type)
  }

  /** Counts a live reader until its response is complete. @throws Problem draining, overloaded; the reason of the signal */
  function enter(request: FastifyRequest, { signal }: Reading): void {
    signal.throwIfAborted()
    ending.throwIfAborted()
    const leaveLimit = readers.enter((request.key as Key).id)
    const leaveWatcher = watcher.join()
    signal.addEventListener('abort', leaveLimit)
    signal.addEventListener('abort', leaveWatcher)
  }
}

export default routes

/** @throws Problem invalid_query, invalid_offset, not_acceptable */
function readRequest(request: Request): Asked {
  const { query, headers } = request
  const { live, limit = MAX_LIMIT } = query
  const type = live === 'sse' ? 'text/event-stream' : negotiate(request, live === 'long-poll' ? PAGE_TYPES : TYPES)
  const isLines = (LINE_TYPES as readonly string[]).includes(type)
  checkQuery(query, isLines)
  return {
    type,
    isLines,
    shape: type === 'application/cloudevents-batch+json' ? 'cloudevent' : 'record',
    filter: readFeedFilter(query, request.key as Key),
    start: readStart(query, headers['last-event-id'] as string | undefined),
    limits: { limit: readLimit(limit), maxBytes: live === undefined && !isLines ? PAGE_BYTES : PART_BYTES },
  }
}

function sendStream(request: Request, reply: FastifyReply, chunks: AsyncIterable<Buffer>, type: string): FastifyReply {
  reply.cutOffWithKey('read')
  // Tells nginx to pass each chunk on at once.
  reply.header('x-accel-buffering', 'no')
  const logged = logBreak(chunks, request, 'a response of the feed broke off')
  return reply.type(type).send(Readable.from(logged, { highWaterMark: 0 }))
}

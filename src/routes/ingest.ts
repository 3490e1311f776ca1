import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import type { Key } from '../access/key.ts'
import { makeDefaults } from '../ingest/defaults.ts'
import { type BodyFormat, chooseFormat, MEDIA_TYPES, readBatch } from '../ingest/formats.ts'
import { readIdempotencyKey } from '../ingest/idempotency.ts'
import { abandon, type Encoding, readEncoding } from '../ingest/inflate.ts'
import { type IngestRequest, ingest } from '../ingest/ingest.ts'
import { ingestLines } from '../ingest/ingest-lines.ts'
import { IDLE_STREAM_BYTES, recordsBytes, textBytes } from '../ingest/memory.ts'
import { preferenceApplied, readPrefer } from '../ingest/prefer.ts'
import { gatherChunks } from '../lib/gather-chunks.ts'
import { Problem } from '../problems.ts'
import { HANDSHAKE_SCHEMA, INGEST_SCHEMA } from '../schemas/ingest.ts'
import { openBody, openReservation, type Reserve, receiveBody, sendContinue } from './receive.ts'

/**
 * In bytes. Up to this size, the memory of a response is released at once, because the kernel takes it: the response to a single
 * record should not need listeners.
 */
const SMALL_RESPONSE = 4096

/** POST /v1/records */
const routes: FastifyPluginAsync = async (app) => {
  const { config } = app
  const limits = {
    maxRecordBytes: config.MAX_RECORD_BYTES,
    maxBatchBytes: config.MAX_BATCH_BYTES,
    maxBatchRecords: config.MAX_BATCH_RECORDS,
  }
  const batchLimits = { ...limits, advice: TOO_LARGE }
  // In binary mode, the body is the data of one record.
  const recordLimits = {
    ...limits,
    maxBatchBytes: limits.maxRecordBytes,
    advice: { ...TOO_LARGE, batch: TOO_LARGE.record },
  }
  const totals = app.recordTotals
  app.decorateRequest('format', undefined)
  app.decorateRequest('encoding', undefined)

  app.post('/v1/records', {
    schema: INGEST_SCHEMA,
    config: { shed: 'ingest', readsBody: true },
    onRequest: [app.requireScope('ingest'), app.admit, checkHeaders],
    // The body is checked record by record, each with its own result: see ingest/envelope.ts.
    validatorCompiler: () => () => true,
    handler: (request, reply) => (request.format === 'lines' ? storeLines(request, reply) : storeBatch(request, reply)),
  })

  // CloudEvents HTTP webhook 1.0.2, section 4: the sender asks whether its origin may send here. Access depends on the key, so
  // every origin is allowed. The rate of requests is not limited; a key may have a limit on records.
  app.options('/v1/records', { schema: HANDSHAKE_SCHEMA }, (request, reply) => {
    const origin = request.headers['webhook-request-origin']
    if (origin !== undefined) reply.headers({ 'webhook-allowed-origin': origin, 'webhook-allowed-rate': '*' })
    reply.headers({ allow: METHODS.join(', '), 'accept-post': MEDIA_TYPES.join(', ') })
    reply.sendJson(JSON.stringify({ methods: METHODS, mediaTypes: MEDIA_TYPES }))
  })

  async function storeBatch(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const preferences = readPrefer(request.headers.prefer)
    const reserve = openReservation(request)
    let bytes = 0
    // The memory of the response is reserved together with that of the records: after the commit, the request cannot be refused.
    let held = 0
    const { format, encoding } = request
    const bodyLimits = format === 'binary' ? recordLimits : batchLimits
    try {
      // No variable holds the body, so it can be collected while the records wait.
      const batch = await readContent(request, await receiveBody(request, reply, encoding, bodyLimits, reserve))
      bytes = batch.bytes
      const admit: IngestRequest['admit'] = (records) => {
        const needed = batch.textBytes + recordsBytes(records)
        reserve(needed)
        held = needed
        if (request.rateLimit !== undefined) {
          request.rateLimit.charge(records.length - 1)
          reply.headers(request.rateLimit.headers)
        }
      }
      // Reading the body may have taken long, so the key is checked again.
      const key = app.keyNow(request, 'ingest')
      const response = await ingest(app.writer, {
        batch,
        bytes,
        key,
        preferences,
        totals: totals.of(key.sourcePrefixes),
        admit,
      })
      request.counts = response.counts
      reply.code(response.status)
      if (response.location !== undefined) reply.header('location', `${app.pathPrefix}${response.location}`)
      const applied = preferenceApplied(preferences)
      if (applied !== undefined) reply.header('preference-applied', applied)
      const body = toBody(response.body)
      held = Math.min(held, body.length)
      return reply.sendJson(body)
    } finally {
      keepUntilTaken(reply, reserve, held)
      app.storage.add(bytes)
    }
  }

  async function readContent(request: FastifyRequest, content: Buffer) {
    const format = request.format as Exclude<BodyFormat, 'lines'>
    const { id } = request.key as Key
    const batch = await readBatch(format, request.raw.rawHeaders, content, limits, defaultsOf(request), id)
    return { ...batch, bytes: content.length, textBytes: textBytes(content, format === 'binary') }
  }

  async function storeLines(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const reserve = openReservation(request)
    const defaults = defaultsOf(request)(false)
    // Other bodies are read as fast as they arrive.
    gatherChunks(request.raw)
    const content = openBody(request, request.encoding)
    const closing = new AbortController()
    // For lines that wait and for the report; after the end of the stream, for the response.
    let held = 0
    const unregister = app.endOnClose(request.raw, (why) => closing.abort(why))
    try {
      reserve(IDLE_STREAM_BYTES)
      app.watchUpload(request.raw)
      sendContinue(request, reply)
      const lost = app.watchKey(request, 'ingest')
      const stop = AbortSignal.any([closing.signal, lost])
      const admit = app.admitLines(request, stop)
      const reserveLines = (bytes: number) => {
        reserve(bytes)
        held = bytes
      }
      const lines = {
        key: request.key as Key,
        defaults,
        limits,
        stop,
        withdraw: lost,
        totals: totals.of((request.key as Key).sourcePrefixes),
        admit,
        reserve: reserveLines,
      }
      const response = await ingestLines(content, app.writer, lines)
      request.counts = response.counts
      const body = toBody(response.body)
      held = Math.min(held, body.length)
      return reply.code(response.status).sendJson(body)
    } finally {
      keepUntilTaken(reply, reserve, held)
      unregister()
      // In every case: an unread body would block the next request on the connection.
      abandon(content)
    }
  }
}

export default routes

/** What to do about a body that is too large. */
const TOO_LARGE = {
  batch:
    'Split it, or send one record per line with Content-Type: application/x-ndjson, which has no limit in total. The limit of other bodies is the setting MAX_BATCH_BYTES.',
  record:
    'It is a single record, whose limit is the setting MAX_RECORD_BYTES. Keep large content elsewhere, and its URL in data.',
}

const METHODS = ['GET', 'HEAD', 'OPTIONS', 'POST']

/** Refuses what can be refused before the body is read. */
function checkHeaders(request: FastifyRequest, _reply: FastifyReply, done: (error?: Error) => void): void {
  let refusal: Error | undefined
  try {
    request.format = chooseFormat(request.headers)
    request.encoding = readEncoding(request.headers['content-encoding'])
    if (request.format === 'lines' && readPrefer(request.headers.prefer).strict) {
      throw new Problem(
        'invalid_header',
        'handling=strict is not possible for lines, because they are committed while they arrive. Send an array with Content-Type: application/json, or omit handling=strict.',
      )
    }
  } catch (error) {
    refusal = error as Error
  }
  done(refusal)
}

/** As bytes if it is large: a string with a character outside of Latin-1 takes twice the memory while it waits. */
const toBody = (json: string) => (json.length > SMALL_RESPONSE ? Buffer.from(json) : json)

/**
 * Keeps the memory of the response reserved until the client has taken it, because any number of clients may leave their
 * responses unread. A problem document, which does not exist yet, needs at most what its records or lines held.
 */
function keepUntilTaken(reply: FastifyReply, reserve: Reserve, bytes: number): void {
  if (bytes <= SMALL_RESPONSE) reserve()
  else {
    reserve(bytes)
    reply.onceTaken(reserve)
  }
}

const defaultsOf = (request: FastifyRequest) =>
  makeDefaults(readIdempotencyKey(request.headers['idempotency-key']), request.traceparent)

declare module 'fastify' {
  interface FastifyRequest {
    /** The format of the body. */
    format: BodyFormat | undefined
    encoding: Encoding | undefined
  }
}

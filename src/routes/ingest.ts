import type { Readable } from 'node:stream'
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import type { Config } from '../config.ts'
import { readBody } from '../ingest/body.ts'
import { makeDefaults } from '../ingest/defaults.ts'
import { chooseFormat, type Format, readBatch } from '../ingest/formats.ts'
import { gatherChunks } from '../ingest/gather-chunks.ts'
import { readIdempotencyKey } from '../ingest/idempotency.ts'
import { abandon, type Encoding, inflate, readEncoding, toBodyProblem } from '../ingest/inflate.ts'
import { ingest } from '../ingest/ingest.ts'
import type { Batch } from '../ingest/json-records.ts'
import { IDLE_STREAM_BYTES, recordsBytes, requestBytes } from '../ingest/memory.ts'
import { ingestLines } from '../ingest/ndjson.ts'
import { preferenceApplied, readPrefer } from '../ingest/prefer.ts'
import { Problem } from '../lib/problems.ts'
import type { Key } from '../operate/keys.ts'
import { INGEST_SCHEMA } from '../schemas/ingest.ts'

type Hold = (bytes?: number) => void

/** POST /v1/records */
const routes: FastifyPluginAsync<{ config: Config }> = async (app, { config }) => {
  const limits = {
    maxRecordBytes: config.MAX_RECORD_BYTES,
    maxBatchBytes: config.MAX_BATCH_BYTES,
    maxBatchRecords: config.MAX_BATCH_RECORDS,
  }
  const totals = app.recordCounts
  app.decorateRequest('format', undefined)
  app.decorateRequest('encoding', undefined)

  // Node itself would ask for the body at once, before anybody has looked at the key.
  app.server.on('checkContinue', (request, response) => app.server.emit('request', request, response))

  app.post('/v1/records', {
    schema: INGEST_SCHEMA,
    config: { shed: 'ingest', readsBody: true },
    onRequest: [app.requireScope('ingest'), app.admit, checkHeaders],
    // The body is checked record by record, each with its own result: see ingest/envelope.ts.
    validatorCompiler: () => () => true,
    handler: (request, reply) => (request.format === 'lines' ? storeLines(request, reply) : storeBatch(request, reply)),
  })

  // CloudEvents HTTP webhook 1.0.2, section 4: may this origin send here? Keys decide that; requests are not
  // limited, but for some keys their records.
  app.options(
    '/v1/records',
    { schema: { summary: 'CloudEvents webhook handshake', tags: ['ingest'] } },
    (request, reply) => {
      const origin = request.headers['webhook-request-origin']
      if (origin !== undefined) reply.headers({ 'webhook-allowed-origin': origin, 'webhook-allowed-rate': '*' })
      reply.header('allow', 'GET, HEAD, OPTIONS, POST').send()
    },
  )

  async function storeBatch(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const preferences = readPrefer(request.headers.prefer)
    const hold = openReservation(request)
    let bytes = 0
    try {
      // The body itself is not kept here: it is garbage while the records wait.
      const batch = await readContent(request, await receive(request, reply, hold), hold)
      bytes = batch.bytes
      if (request.rateLimit !== undefined) {
        request.rateLimit.charge(batch.records.length - 1)
        reply.headers(request.rateLimit.headers)
      }
      // The body may have taken its time: what the key may do counts now.
      const key = app.keyNow(request, 'ingest')
      const answer = await ingest(app.writer, { batch, bytes, key, preferences, totals })
      request.counts = answer.counts
      reply.code(answer.status)
      if (answer.location !== undefined) reply.header('location', answer.location)
      const applied = preferenceApplied(preferences)
      if (applied !== undefined) reply.header('preference-applied', applied)
      return reply.sendJson(answer.body)
    } finally {
      hold()
      app.storage.add(bytes)
    }
  }

  /** Reserves memory: called with what the request holds beyond itself; without anything, nothing is reserved any more. */
  function openReservation(request: FastifyRequest): Hold {
    const reserve = app.budget.openReservation((request.key as Key).id)
    const own = requestBytes(request.raw.rawHeaders)
    return (bytes) => reserve(bytes === undefined ? 0 : own + bytes)
  }

  async function receive(request: FastifyRequest, reply: FastifyReply, hold: Hold): Promise<Buffer> {
    const { raw, encoding } = request
    const declared = encoding === undefined ? Number(request.headers['content-length'] ?? 0) : 0
    const maxBatchBytes = request.format === 'binary' ? limits.maxRecordBytes : limits.maxBatchBytes
    const body = openBody(request)
    app.watchUpload(raw)
    const stopWatch = app.watchRate(raw)
    // To those who read the body, past `destroy`, which would take the connection along, and so the answer.
    const over = app.endOnClose(raw, (why) => raw.complete || raw.emit('error', why))
    try {
      const content = readBody(body, declared, { ...limits, maxBatchBytes }, hold)
      letContinue(request, reply)
      return await content
    } catch (error) {
      abandon(body)
      throw error
    } finally {
      stopWatch()
      over()
    }
  }

  async function readContent(request: FastifyRequest, content: Buffer, hold: Hold): Promise<Batch & { bytes: number }> {
    const format = request.format as Exclude<Format, 'lines'>
    const { id } = request.key as Key
    const batch = await readBatch(format, request.raw.rawHeaders, content, limits, defaultsOf(request), id)
    hold(recordsBytes(content, format === 'binary', batch.records.length))
    return { ...batch, bytes: content.length }
  }

  async function storeLines(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const hold = openReservation(request)
    const defaults = defaultsOf(request)(false)
    const body = openBody(request)
    const closing = new AbortController()
    const over = app.endOnClose(request.raw, (why) => closing.abort(why))
    try {
      hold(IDLE_STREAM_BYTES)
      app.watchUpload(request.raw)
      letContinue(request, reply)
      const stop = AbortSignal.any([closing.signal, app.watchKey(request, 'ingest')])
      const admit = app.admitLines(request, stop)
      const lines = { key: request.key as Key, defaults, limits, stop, totals, admit, hold }
      const answer = await ingestLines(body, app.writer, lines)
      request.counts = answer.counts
      return reply.code(answer.status).sendJson(answer.body)
    } finally {
      hold()
      over()
      // Whatever became of it: what nobody reads would hold up the next request of the connection.
      abandon(body)
    }
  }
}

export default routes

/** What can be refused before the body is read. */
function checkHeaders(request: FastifyRequest, _reply: FastifyReply, done: (error?: Error) => void): void {
  let refusal: Error | undefined
  try {
    request.format = chooseFormat(request.headers)
    request.encoding = readEncoding(request.headers['content-encoding'])
    if (request.format === 'lines' && readPrefer(request.headers.prefer).strict) {
      throw new Problem(
        'invalid_header',
        'handling=strict is not for lines, which are committed while they arrive. Send an array, or leave it out.',
      )
    }
  } catch (error) {
    refusal = error as Error
  }
  done(refusal)
}

/** @throws Problem incomplete_body when the sender has left already: a stream that is closed tells nobody so */
function openBody({ raw, encoding, format }: FastifyRequest): Readable {
  if (raw.destroyed) throw toBodyProblem(raw.errored)
  // Other bodies are read as they come.
  if (format === 'lines') gatherChunks(raw)
  return inflate(raw, encoding)
}

/**
 * A sender who waits to be asked for the body (RFC 9110, section 10.1.1) is asked when nothing more stands against it. One
 * that speaks HTTP/1.0 does not wait, and would take this for the answer.
 */
function letContinue(request: FastifyRequest, reply: FastifyReply): void {
  if (request.headers.expect !== undefined && request.raw.httpVersionMinor > 0) reply.raw.writeContinue()
}

const defaultsOf = (request: FastifyRequest) =>
  makeDefaults(readIdempotencyKey(request.headers['idempotency-key']), request.traceparent)

declare module 'fastify' {
  interface FastifyRequest {
    /** How the body is to be read. */
    format: Format | undefined
    encoding: Encoding | undefined
  }
}

import type { Readable } from 'node:stream'
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import type { Config } from '../config.ts'
import { readBody } from '../ingest/body.ts'
import { makeDefaults } from '../ingest/defaults.ts'
import { chooseFormat, type Format, readBatch } from '../ingest/formats.ts'
import { gatherChunks } from '../ingest/gather-chunks.ts'
import { readIdempotencyKey } from '../ingest/idempotency.ts'
import { abandon, type Encoding, inflate, readEncoding, toBodyProblem } from '../ingest/inflate.ts'
import { type IngestRequest, ingest } from '../ingest/ingest.ts'
import { IDLE_STREAM_BYTES, recordsBytes, requestBytes, textBytes } from '../ingest/memory.ts'
import { ingestLines } from '../ingest/ndjson.ts'
import { preferenceApplied, readPrefer } from '../ingest/prefer.ts'
import { Problem } from '../lib/problems.ts'
import type { Key } from '../operate/keys.ts'
import { INGEST_SCHEMA } from '../schemas/ingest.ts'

type Hold = (bytes?: number) => void

/**
 * Up to this size an answer's memory is given back at once, since the client's kernel or ours takes it: the
 * answer to a single record should not pay for listeners.
 */
const SMALL_ANSWER = 4096

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
    // Of the records, and then of the answer: that is reserved with them, since it cannot be refused once they are committed.
    let held = 0
    try {
      // The body itself is not kept here: it is garbage while the records wait.
      const batch = await readContent(request, await receive(request, reply, hold))
      bytes = batch.bytes
      const reserve: IngestRequest['reserve'] = (records) => {
        const needed = batch.textBytes + recordsBytes(records)
        hold(needed)
        held = needed
        if (request.rateLimit !== undefined) {
          request.rateLimit.charge(records.length - 1)
          reply.headers(request.rateLimit.headers)
        }
      }
      // The body may have taken its time: what the key may do counts now.
      const key = app.keyNow(request, 'ingest')
      const answer = await ingest(app.writer, { batch, bytes, key, preferences, totals, reserve })
      request.counts = answer.counts
      reply.code(answer.status)
      if (answer.location !== undefined) reply.header('location', answer.location)
      const applied = preferenceApplied(preferences)
      if (applied !== undefined) reply.header('preference-applied', applied)
      const body = toBody(answer.body)
      held = Math.min(held, body.length)
      return reply.sendJson(body)
    } finally {
      keepUntilTaken(reply, hold, held)
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

  async function readContent(request: FastifyRequest, content: Buffer) {
    const format = request.format as Exclude<Format, 'lines'>
    const { id } = request.key as Key
    const batch = await readBatch(format, request.raw.rawHeaders, content, limits, defaultsOf(request), id)
    return { ...batch, bytes: content.length, textBytes: textBytes(content, format === 'binary') }
  }

  async function storeLines(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const hold = openReservation(request)
    const defaults = defaultsOf(request)(false)
    const content = openBody(request)
    const closing = new AbortController()
    // Of what is read and waits, and of the report: that of the answer, too, once the stream is over.
    let held = 0
    const over = app.endOnClose(request.raw, (why) => closing.abort(why))
    try {
      hold(IDLE_STREAM_BYTES)
      app.watchUpload(request.raw)
      letContinue(request, reply)
      const lost = app.watchKey(request, 'ingest')
      const stop = AbortSignal.any([closing.signal, lost])
      const admit = app.admitLines(request, stop)
      const holdLines = (bytes: number) => {
        hold(bytes)
        held = bytes
      }
      const lines = { key: request.key as Key, defaults, limits, stop, withdraw: lost, totals, admit, hold: holdLines }
      const answer = await ingestLines(content, app.writer, lines)
      request.counts = answer.counts
      const body = toBody(answer.body)
      held = Math.min(held, body.length)
      return reply.code(answer.status).sendJson(body)
    } finally {
      keepUntilTaken(reply, hold, held)
      over()
      // Whatever became of it: what nobody reads would hold up the next request of the connection.
      abandon(content)
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

/** As bytes, if it is large: text would take twice as much while it waits, if one of its characters is not in Latin-1. */
const toBody = (json: string) => (json.length > SMALL_ANSWER ? Buffer.from(json) : json)

/**
 * Keeps as many bytes as the answer holds until the client has taken it: any number of clients may leave their answers
 * unread. The document of a problem, which is not made yet, holds at most what its records or lines held.
 */
function keepUntilTaken(reply: FastifyReply, hold: Hold, bytes: number): void {
  if (bytes <= SMALL_ANSWER) hold()
  else {
    hold(bytes)
    reply.onceTaken(hold)
  }
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

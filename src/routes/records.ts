import { Readable } from 'node:stream'
import compress from '@fastify/compress'
import { type Static, Type } from '@sinclair/typebox'
import type { FastifyPluginAsync, FastifyRequest } from 'fastify'
import { Gauge } from 'prom-client'
import type { Key } from '../access/key.ts'
import { CSV, EXPORT_BYTES, NDJSON, openExport } from '../read/export.ts'
import { readPage, readRecord } from '../read/records.ts'
import { IdentitySchema, type ListQuery, ListQuerySchema, PageSchema } from '../schemas/list.ts'
import { ProblemSchema } from '../schemas/problem.ts'
import { RecordSchema } from '../schemas/record.ts'
import { COMPRESSED_AT_ONCE, COMPRESSION, compressorBytes } from './compression.ts'
import { negotiate } from './negotiate.ts'
import { whileReading } from './while-reading.ts'

const LIST_TYPES = [
  'application/json',
  'application/x-ndjson',
  'text/csv',
  'application/cloudevents-batch+json',
] as const
const RECORD_TYPES = ['application/json', 'application/cloudevents+json'] as const

const text = Type.String()
const problem = { description: 'Refused', content: { 'application/problem+json': { schema: Type.Ref(ProblemSchema) } } }
const common = { tags: ['read'], security: [{ key: [] }] }

type Identity = Static<typeof IdentitySchema>

/** GET /v1/records and GET /v1/records/{source}/{id} */
const routes: FastifyPluginAsync = async (app) => {
  const { config } = app
  const exports = new Gauge({ name: 'sluice_exports', help: 'Exports that are being sent.', registers: [app.metrics] })
  const primary = { db: app.db.read, semaphore: app.semaphores.read }
  // Registered here and not for all routes, because its hooks run even for routes without compression.
  await app.register(compress, { global: false, globalDecompression: false })

  app.get<{ Querystring: ListQuery }>('/v1/records', {
    schema: {
      ...common,
      operationId: 'listRecords',
      summary: 'List records, newest first by default',
      description:
        'application/json and application/cloudevents-batch+json return a page. application/x-ndjson and text/csv stream the whole selection.',
      querystring: ListQuerySchema,
      response: {
        200: {
          description: 'A page, or the whole selection',
          content: {
            'application/json': { schema: Type.Ref(PageSchema) },
            'application/x-ndjson': { schema: text },
            'text/csv': { schema: text },
            'application/cloudevents-batch+json': { schema: Type.Array(Type.Any()) },
          },
        },
        default: problem,
      },
    },
    compress: COMPRESSION,
    config: { shed: 'read' },
    onRequest: app.requireScope('read'),
    handler: whileReading<{ Querystring: ListQuery }>(async (request, reply, { signal, reserve }) => {
      const type = negotiate(request, LIST_TYPES)
      const [semaphore, key] = [app.semaphores.list, request.key as Key]
      const reader = { db: app.db.list, primary, semaphore, key, signal }
      reply.header('vary', 'Accept, Accept-Encoding')
      if (type === 'application/x-ndjson' || type === 'text/csv') {
        reserve(EXPORT_BYTES + compressorBytes(request))
        const format = type === 'text/csv' ? CSV : NDJSON
        const pages = await openExport(reader, request.query, format, config.OUTAGE_HOLD_SECONDS * 1000)
        reply.cutOffWithKey('read')
        // To send only the headers, Fastify would read the whole export at full speed.
        const chunks = watched(request.method === 'HEAD' ? [] : pages, request, exports)
        return reply.type(`${type}; charset=utf-8`).send(Readable.from(chunks, { highWaterMark: 0 }))
      }
      const shape = type === 'application/json' ? 'record' : 'cloudevent'
      const { body, next } = await readPage(reader, request.query, config.MAX_PAGE_BYTES, shape, reserve)
      checkAgain(request)
      if (body.length > COMPRESSED_AT_ONCE) reserve(body.buffer.byteLength + compressorBytes(request))
      if (next !== null) reply.header('link', `<${nextUrl(request, next)}>; rel="next"`)
      return reply.type(shape === 'record' ? `${type}; charset=utf-8` : type).send(body)
    }),
  })

  app.get<{ Params: Identity }>('/v1/records/:source/:id', {
    schema: {
      ...common,
      operationId: 'getRecord',
      summary: 'Read one record; 404 means that it is not stored',
      params: IdentitySchema,
      response: {
        200: {
          description: 'The record',
          content: {
            'application/json': { schema: Type.Ref(RecordSchema) },
            'application/cloudevents+json': { schema: Type.Any() },
          },
        },
        default: problem,
      },
    },
    config: { shed: 'read' },
    onRequest: app.requireScope('read'),
    handler: whileReading<{ Params: Identity }>(async (request, reply, { signal, reserve }) => {
      const { source, id } = request.params
      const type = negotiate(request, RECORD_TYPES)
      const shape = type === 'application/json' ? 'record' : 'cloudevent'
      const [semaphore, key] = [app.semaphores.read, request.key as Key]
      const reader = { db: app.db.read, primary, semaphore, key, signal }
      const record = await readRecord(reader, source, id, shape, reserve)
      checkAgain(request)
      return reply.header('vary', 'Accept').type(`${type}; charset=utf-8`).send(record)
    }),
  })
}

export default routes

/** Reading may have taken long, so the key is checked again. @throws Problem unauthorized, forbidden, source_forbidden */
const checkAgain = (request: FastifyRequest) => request.server.watchKey(request, 'read').throwIfAborted()

/**
 * Counts an export while it is sent, and logs why it breaks off. Nothing else logs that: the status is already sent, and
 * Fastify's own request log is off (app.ts).
 */
async function* watched(
  chunks: AsyncIterable<Buffer> | Buffer[],
  { id, log }: FastifyRequest,
  inProgress: Gauge,
): AsyncGenerator<Buffer> {
  inProgress.inc()
  try {
    yield* chunks
  } catch (err) {
    log.warn({ requestId: id, err }, 'an export broke off')
    throw err
  } finally {
    inProgress.dec()
  }
}

/** The same request with another cursor (RFC 8288, "next"). */
function nextUrl(request: FastifyRequest, cursor: string): string {
  const url = new URL(request.url, 'http://sluice.invalid')
  url.searchParams.set('cursor', cursor)
  return `${url.pathname}${url.search}`
}

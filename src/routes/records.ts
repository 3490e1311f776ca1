import { Readable } from 'node:stream'
import compress from '@fastify/compress'
import type { Static } from '@sinclair/typebox'
import type { FastifyPluginAsync, FastifyRequest } from 'fastify'
import { Gauge } from 'prom-client'
import type { Key } from '../access/key.ts'
import { Problem } from '../problems.ts'
import { CSV, EXPORT_BYTES, NDJSON, openExport } from '../read/export.ts'
import { readPage, readRecord } from '../read/records.ts'
import { IdentitySchema, type ListQuery, ListQuerySchema, PageSchema } from '../schemas/list.ts'
import { LINE_TYPES } from '../schemas/media-types.ts'
import { RecordSchema } from '../schemas/record.ts'
import { json, refusals, text } from '../schemas/responses.ts'
import { COMPRESSED_AT_ONCE, COMPRESSION, compressorBytes } from './compression.ts'
import { negotiate, negotiateEncoding, VARY } from './negotiate.ts'
import { checkKeyAgain, logBreak, whileReading } from './while-reading.ts'

const LIST_TYPES = ['application/json', ...LINE_TYPES, 'text/csv', 'application/cloudevents-batch+json'] as const

const common = { tags: ['read'], security: [{ key: [] }] }

/** A sender chose the media type of a payload. No browser should show it as a page of this server. */
const DOWNLOAD = {
  'content-disposition': 'attachment',
  'content-security-policy': 'sandbox',
  'x-content-type-options': 'nosniff',
}

/** Proxies respond with 502 if the headers of a response do not fit into a buffer: 4 or 8 KiB in nginx (proxy_buffer_size). */
const MAX_LINK_BYTES = 2_048

const LINK = `\`rel="next"\`: the next page. Absent if it would be longer than ${MAX_LINK_BYTES} bytes; \`next\` in the body says the same.`

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
        'With `Accept: application/cloudevents-batch+json`, the page is an array of CloudEvents. With `Accept: application/x-ndjson` or ' +
        '`text/csv`, the response is the whole selection as a stream. (These responses are not in the list below, because a client ' +
        'that is generated from it would then have one type for all of them.)',
      querystring: ListQuerySchema,
      response: {
        200: json(PageSchema, 'A page', { Link: text(LINK) }),
        ...refusals(),
      },
    },
    compress: COMPRESSION,
    config: { shed: 'read' },
    onRequest: app.requireScope('read'),
    handler: whileReading<{ Querystring: ListQuery }>(async (request, reply, { signal, reserve }) => {
      reply.header('vary', VARY)
      const type = negotiate(request, LIST_TYPES)
      const allowsIdentity = negotiateEncoding(request, 'compressed')
      const [semaphore, key] = [app.semaphores.list, request.key as Key]
      const reader = { db: app.db.list, primary, semaphore, key, signal }
      if (type !== 'application/json' && type !== 'application/cloudevents-batch+json') {
        reserve(EXPORT_BYTES + compressorBytes(request))
        const format = type === 'text/csv' ? CSV : NDJSON
        const pages = await openExport(reader, request.query, format, config.OUTAGE_HOLD_SECONDS * 1000)
        reply.cutOffWithKey('read')
        // To send only the headers, Fastify would read the whole export at full speed.
        const logged = logBreak(request.method === 'HEAD' ? [] : pages, request, 'an export broke off')
        const chunks = counted(logged, exports)
        return reply.type(`${type}; charset=utf-8`).send(Readable.from(chunks, { highWaterMark: 0 }))
      }
      const shape = type === 'application/json' ? 'record' : 'cloudevent'
      const { body, next } = await readPage(reader, request.query, config.MAX_PAGE_BYTES, shape, reserve)
      checkKeyAgain(request)
      if (body.length > COMPRESSED_AT_ONCE) reserve(body.buffer.byteLength + compressorBytes(request))
      if (next !== null) {
        const link = `<${nextUrl(request, next)}>; rel="next"`
        // CloudEvents have no other place for the cursor.
        if (link.length <= MAX_LINK_BYTES || shape === 'cloudevent') reply.header('link', link)
      }
      return reply.type(shape === 'record' ? `${type}; charset=utf-8` : type).send(encodable(body, allowsIdentity))
    }),
  })

  app.get<{ Params: Identity }>('/v1/records/:source/:id', {
    schema: {
      ...common,
      operationId: 'getRecord',
      summary: 'Read one record; 404 means that it is not stored',
      description:
        'With `Accept: application/cloudevents+json`, it is a CloudEvent, without `receivedAt` and `cursor`. With the media type of its ' +
        'own payload in `Accept`, such as `image/png`, the response is the payload alone.',
      params: IdentitySchema,
      response: {
        200: json(RecordSchema, 'The record'),
        ...refusals(),
      },
    },
    compress: COMPRESSION,
    config: { shed: 'read' },
    onRequest: app.requireScope('read'),
    handler: whileReading<{ Params: Identity }>(async (request, reply, { signal, reserve }) => {
      const { source, id } = request.params
      if (id === '') throw new Problem('not_found', noId(app.pathPrefix))
      reply.header('vary', VARY)
      // Compressing a single record takes longer than sending it.
      const allowsIdentity = negotiateEncoding(request, 'identity')
      const [semaphore, key] = [app.semaphores.read, request.key as Key]
      const reader = { db: app.db.read, primary, semaphore, key, signal }
      const choose = (types: readonly string[]) => negotiate(request, types)
      const { type, body, isPayload } = await readRecord(reader, source, id, choose, reserve)
      checkKeyAgain(request)
      if (!allowsIdentity) reserve(body.buffer.byteLength + compressorBytes(request))
      if (isPayload) reply.headers(DOWNLOAD)
      return reply.header('content-type', type).send(encodable(body, allowsIdentity))
    }),
  })
}

export default routes

const noId = (prefix = '') => `The path has no id. GET ${prefix}/v1/records?source=… lists the records of a source.`

/** The library compresses a stream of any length, but not a short text. */
const encodable = (body: Buffer, allowsIdentity: boolean) => (allowsIdentity ? body : Readable.from([body]))

/** Counts an export while it is sent. */
async function* counted(chunks: AsyncIterable<Buffer>, inProgress: Gauge): AsyncGenerator<Buffer> {
  inProgress.inc()
  try {
    yield* chunks
  } finally {
    inProgress.dec()
  }
}

/** The same request with another cursor (RFC 8288, "next"). */
function nextUrl(request: FastifyRequest, cursor: string): string {
  const url = new URL(request.url, 'http://sluice.invalid')
  url.searchParams.set('cursor', cursor)
  return `${request.server.pathPrefix}${url.pathname}${url.search}`
}

import { Type } from '@sinclair/typebox'
import type { FastifyError, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import type { Key } from '../access/key.ts'
import {
  type Consumer,
  createConsumer,
  findConsumer,
  listConsumers,
  moveConsumer,
  readPosition,
  removeConsumer,
} from '../feed/consumers.ts'
import { decodeText } from '../ingest/body.ts'
import { readEncoding } from '../ingest/inflate.ts'
import { toProblem } from '../plugins/problems.ts'
import type { Reader } from '../read/reader.ts'
import {
  ConsumerListSchema,
  ConsumerNameSchema,
  ConsumerRequestSchema,
  ConsumerSchema,
  StoredConsumerSchema,
} from '../schemas/consumers.ts'
import { HEADERS, json, refusals, text } from '../schemas/responses.ts'
import { readCondition, readIfMatch } from './conditions.ts'
import { checkName, notCreated, notMoved, unknownConsumer } from './consumer-problems.ts'
import { readConsumerRequest } from './consumer-request.ts'
import { openReservation, receiveBody } from './receive.ts'
import { requireJson } from './require-json.ts'
import { checkKeyAgain, whileReading } from './while-reading.ts'

/** Room for an offset in any spelling. */
const MAX_BODY_BYTES = 4096
const LIMITS = { maxBatchBytes: MAX_BODY_BYTES, maxRecordBytes: MAX_BODY_BYTES }

interface Route {
  Params: { name: string }
}

const common = { tags: ['consumers'], security: [{ key: [] }] }
const ETAG = {
  ETag: text('For If-Match. It changes with each stored offset, and never comes again; the lag changes without it'),
}
const IF_MATCH = Type.Optional(
  Type.String({ description: 'The ETag of the last response about this consumer; or `*`' }),
)

/** GET /v1/consumers; PUT, GET and DELETE /v1/consumers/{name}. */
const routes: FastifyPluginAsync = async (app) => {
  const config = { shed: 'read' } as const
  const onRequest = app.requireScope('read')
  const readerOf = (request: FastifyRequest, signal: AbortSignal): Reader => {
    const [db, semaphore] = [app.db.feed, app.consumerTurns]
    return { db, primary: { db, semaphore }, semaphore, key: request.key as Key, signal }
  }
  /** @throws Problem invalid_request */
  const nameOf = (request: FastifyRequest<Route>): string => {
    const name = checkName(request.params.name)
    // The log must say which consumer was changed: retention may wait for it, or no longer wait.
    request.consumer = name
    return name
  }
  const pathOf = (name: string) => `${app.pathPrefix}/v1/consumers/${name}`

  app.get('/v1/consumers', {
    schema: {
      ...common,
      operationId: 'listConsumers',
      summary: 'All consumers with their offsets and lags, by name',
      response: { 200: json(ConsumerListSchema, 'The consumers'), ...refusals() },
    },
    config,
    onRequest,
    handler: whileReading(async (request, reply, { signal, reserve }) => {
      const body = Buffer.from(JSON.stringify({ consumers: await listConsumers(readerOf(request, signal)) }))
      checkKeyAgain(request)
      reserve(body.length)
      return reply.header('cache-control', 'no-store').sendJson(body)
    }),
  })

  app.get<Route>('/v1/consumers/:name', {
    schema: {
      ...common,
      operationId: 'getConsumer',
      summary: 'The offset of a consumer, and its lag',
      params: ConsumerNameSchema,
      response: { 200: json(ConsumerSchema, 'The consumer', ETAG), ...refusals() },
    },
    config,
    onRequest,
    handler: whileReading<Route>(async (request, reply, { signal }) => {
      const name = nameOf(request)
      const consumer = await findConsumer(readerOf(request, signal), name)
      checkKeyAgain(request)
      if (consumer === undefined) throw unknownConsumer(app, name)
      return sendConsumer(reply, consumer)
    }),
  })

  app.put<Route>('/v1/consumers/:name', {
    schema: {
      ...common,
      operationId: 'putConsumer',
      summary: 'Store how far a consumer has read',
      description:
        'With `If-None-Match: *`, it creates the consumer. With `If-Match` and the ETag of the last response about the consumer, it moves ' +
        'the consumer: if somebody else has moved it meanwhile, the response is 412 and the stored offset stays. The offset may be lower ' +
        'than the stored one; then the consumer reads records again.\n\n' +
        'If the response is lost, GET the consumer: if its offset is the one that you sent, go on with the new ETag.',
      params: ConsumerNameSchema,
      headers: Type.Object({
        'if-match': IF_MATCH,
        'if-none-match': Type.Optional(Type.Literal('*', { description: 'Create the consumer' })),
      }),
      body: { content: { 'application/json': { schema: Type.Ref(ConsumerRequestSchema) } } },
      response: {
        200: json(StoredConsumerSchema, 'The consumer has this offset now', ETAG),
        201: json(StoredConsumerSchema, 'The consumer was created', {
          ...ETAG,
          Location: text('The path of the consumer'),
        }),
        ...refusals(),
      },
    },
    config: { ...config, readsBody: true },
    onRequest,
    // The handler reads the body and checks everything.
    validatorCompiler: () => () => true,
    handler: whileReading<Route>(async (request, reply, { signal }) => {
      const name = nameOf(request)
      const condition = readCondition(request.headers, pathOf(name))
      requireJson(request)
      const offset = await receiveOffset(request, reply)
      // The body may have taken a long time.
      app.keyNow(request, 'read')
      const reader = readerOf(request, signal)
      const position = await beforeWriting(readPosition(reader, offset))
      if (condition === 'absent') {
        const created = await createConsumer(reader, name, position)
        if (typeof created !== 'string') return sendConsumer(reply.code(201).header('location', pathOf(name)), created)
        const existing = await beforeWriting(findConsumer(reader, name))
        throw notCreated(app, name, existing, created === 'full')
      }
      const moved = await moveConsumer(reader, name, position, condition)
      if (moved === undefined) throw notMoved(name, await beforeWriting(findConsumer(reader, name)))
      return sendConsumer(reply, moved)
    }),
  })

  app.delete<Route>('/v1/consumers/:name', {
    schema: {
      ...common,
      operationId: 'deleteConsumer',
      summary: 'Delete a consumer: retention no longer waits for it',
      params: ConsumerNameSchema,
      headers: Type.Object({ 'if-match': IF_MATCH }),
      response: { 204: { type: 'null', description: 'The consumer is deleted', headers: HEADERS }, ...refusals() },
    },
    config,
    onRequest,
    handler: whileReading<Route>(async (request, reply, { signal }) => {
      const name = nameOf(request)
      const condition = readIfMatch(request.headers)
      const reader = readerOf(request, signal)
      if (!(await removeConsumer(reader, name, condition ?? 'any'))) {
        // Without a consumer, the condition does not count (RFC 9110, section 13.2.1).
        const consumer = condition && (await beforeWriting(findConsumer(reader, name)))
        throw consumer === undefined ? unknownConsumer(app, name) : notMoved(name, consumer)
      }
      return reply.code(204).send()
    }),
  })

  async function receiveOffset(request: FastifyRequest, reply: FastifyReply): Promise<string> {
    const encoding = readEncoding(request.headers['content-encoding'])
    const reserve = openReservation(request)
    try {
      const body = await receiveBody(request, reply, encoding, LIMITS, reserve)
      return readConsumerRequest(decodeText(body, 'a JSON object with the offset')).offset
    } finally {
      reserve()
    }
  }
}

export default routes

const sendConsumer = (reply: FastifyReply, { document, revision }: Consumer): FastifyReply =>
  reply.headers({ etag: `"${revision}"`, 'cache-control': 'no-store' }).sendJson(JSON.stringify(document))

/** The request may write, but this part of it only reads: if it fails, nothing was written. @throws Problem */
const beforeWriting = <T>(reading: Promise<T>): Promise<T> =>
  reading.catch((error: FastifyError) => {
    throw toProblem(error, 'GET')
  })

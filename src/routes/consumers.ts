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
import { Problem } from '../problems.ts'
import type { Reader } from '../read/reader.ts'
import { CONSUMER_NAME, CONSUMER_NAME_RULE } from '../schemas/consumer-name.ts'
import {
  ConsumerListSchema,
  ConsumerNameSchema,
  ConsumerRequestSchema,
  ConsumerSchema,
  StoredConsumerSchema,
} from '../schemas/consumers.ts'
import { HEADERS, json, refusals, text } from '../schemas/responses.ts'
import { readCondition, readIfMatch } from './conditions.ts'
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
      const name = checkName(request.params.name)
      const consumer = await findConsumer(readerOf(request, signal), name)
      checkKeyAgain(request)
      if (consumer === undefined) throw unknown(name)
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
      const name = checkName(request.params.name)
      const condition = readCondition(request.headers, pathOf(name))
      requireJson(request)
      const offset = await receiveOffset(request, reply)
      // The body may have taken a long time.
      app.keyNow(request, 'read')
      const reader = readerOf(request, signal)
      const position = await beforeWriting(readPosition(reader, offset))
      const consumer =
        condition === 'absent'
          ? await createConsumer(reader, name, position)
          : await moveConsumer(reader, name, position, condition)
      if (consumer === undefined) throw await beforeWriting(explainRefusal(reader, name, condition === 'absent'))
      if (condition === 'absent') {
        logChange(request, name, 'a consumer was created')
        reply.code(201).header('location', pathOf(name))
      }
      return sendConsumer(reply, consumer)
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
      const name = checkName(request.params.name)
      const condition = readIfMatch(request.headers)
      const reader = readerOf(request, signal)
      if (!(await removeConsumer(reader, name, condition ?? 'any'))) {
        // Without a consumer, the condition does not count (RFC 9110, section 13.2.1).
        const consumer = condition && (await beforeWriting(findConsumer(reader, name)))
        throw consumer === undefined ? unknown(name) : mismatch(consumer)
      }
      logChange(request, name, 'a consumer was deleted')
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

  /** Why a consumer was not changed. */
  async function explainRefusal(reader: Reader, name: string, creates: boolean): Promise<Problem> {
    const consumer = await findConsumer(reader, name)
    if (consumer === undefined && creates) {
      const detail = `There are too many consumers. Delete one that nobody uses: GET ${app.pathPrefix}/v1/consumers lists all.`
      return new Problem('too_many_consumers', detail)
    }
    if (consumer === undefined)
      return new Problem('precondition_failed', `${missing(name)} If-None-Match: * creates it.`)
    return mismatch(consumer, creates)
  }

  const missing = (name: string) => `There is no consumer ${name}.`

  function unknown(name: string): Problem {
    const detail = `${missing(name)} PUT ${pathOf(name)} with If-None-Match: * creates it, and GET ${app.pathPrefix}/v1/consumers lists all.`
    return new Problem('not_found', detail)
  }

  /** Who did it must be known if retention waits for a consumer that nobody knows, or no longer waits. */
  function logChange({ id, key }: FastifyRequest, consumer: string, what: string): void {
    app.log.info({ requestId: id, key: key?.id, consumer }, what)
  }
}

export default routes

/** @throws Problem invalid_request */
function checkName(name: string): string {
  if (CONSUMER_NAME.test(name)) return name
  const detail = `The name of a consumer ${CONSUMER_NAME_RULE}.`
  throw new Problem('invalid_request', detail, { errors: [{ pointer: 'name', code: 'invalid_request', detail }] })
}

const sendConsumer = (reply: FastifyReply, { document, revision }: Consumer): FastifyReply =>
  reply.headers({ etag: `"${revision}"`, 'cache-control': 'no-store' }).sendJson(JSON.stringify(document))

function mismatch({ document: { name, offset }, revision }: Consumer, creates = false): Problem {
  const advice = creates
    ? 'To change it, send If-Match with this ETag.'
    : 'Somebody else has stored it, or your last request arrived and its response was lost. An ETag with W/ never matches.'
  const detail = `The consumer ${name} has the offset ${offset} and the ETag "${revision}". ${advice}`
  return new Problem('precondition_failed', detail)
}

/** The request may write, but this part of it only reads: if it fails, nothing was written. @throws Problem */
const beforeWriting = <T>(reading: Promise<T>): Promise<T> =>
  reading.catch((error: FastifyError) => {
    throw toProblem(error, 'GET')
  })

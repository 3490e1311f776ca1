import { Type } from '@sinclair/typebox'
import type { FastifyError, FastifyInstance, FastifyPluginAsync, FastifyRequest } from 'fastify'
import { generateKey, type Key } from '../access/key.ts'
import { idInKey } from '../access/key-hints.ts'
import { createKey, listKeys, revokeKey } from '../access/manage-keys.ts'
import { decodeText } from '../ingest/body.ts'
import { readEncoding } from '../ingest/inflate.ts'
import { FairSemaphore } from '../lib/fair-semaphore.ts'
import { quoted } from '../lib/quoted.ts'
import { toProblem } from '../plugins/problems.ts'
import { Problem } from '../problems.ts'
import { KeyIdSchema, KeyListSchema, KeyRequestSchema, NewKeySchema } from '../schemas/keys.ts'
import { HEADERS, json, refusals } from '../schemas/responses.ts'
import { requireAllSources } from './all-sources.ts'
import { readKeyRequest } from './key-request.ts'
import { openReservation, receiveBody } from './receive.ts'
import { requireJson } from './require-json.ts'
import { whileReading } from './while-reading.ts'

/** Room for a name and a hundred source prefixes, also if JSON escapes every character. */
export const MAX_BODY_BYTES = 512 * 1024
const LIMITS = { maxBatchBytes: MAX_BODY_BYTES, maxRecordBytes: MAX_BODY_BYTES }

const common = { tags: ['keys'], security: [{ key: [] }] }

/** POST and GET /v1/keys, DELETE /v1/keys/{id}: what `sluice keys` does, for keys with the scope `admin`. */
const routes: FastifyPluginAsync = async (app) => {
  const config = { shed: 'read' } as const
  // Otherwise a key that is limited to some sources could create a key for all of them.
  const onRequest = [app.requireScope('admin'), requireAllSources('manage keys')]
  const queries = new FairSemaphore(2, 'Other requests are managing keys. Try again later.')

  app.post('/v1/keys', {
    schema: {
      ...common,
      operationId: 'createKey',
      summary: 'Create an API key',
      description:
        'Only this response contains the key itself, in `token`. If the response is lost, revoke the key and create another one.',
      body: { content: { 'application/json': { schema: Type.Ref(KeyRequestSchema) } } },
      response: {
        201: json(NewKeySchema, 'The new key'),
        ...refusals(),
      },
    },
    config: { ...config, readsBody: true },
    onRequest,
    // The handler reads the body and checks it.
    validatorCompiler: () => () => true,
    handler: whileReading(async (request, reply, { signal }) => {
      requireJson(request)
      const encoding = readEncoding(request.headers['content-encoding'])
      const reserve = openReservation(request)
      try {
        const body = await receiveBody(request, reply, encoding, LIMITS, reserve)
        const fields = readKeyRequest(decodeText(body, 'a JSON object that describes the key'))
        // The body may have taken a long time.
        app.keyNow(request, 'admin')
        const secret = generateKey()
        const create = () => createKey(app.db.read, fields, secret)
        const key = await change(request, signal, secret.id, 'created', create)
        return reply.code(201).header('cache-control', 'no-store').sendJson(JSON.stringify(key))
      } finally {
        reserve()
      }
    }),
  })

  app.get('/v1/keys', {
    schema: {
      ...common,
      operationId: 'listKeys',
      summary: 'All API keys, without their secrets, oldest first',
      response: {
        200: json(KeyListSchema, 'The keys'),
        ...refusals(),
      },
    },
    config,
    onRequest,
    handler: whileReading(async (request, reply, { signal, reserve }) => {
      const keys = await inTurn(request, signal, () => listKeys(app.db.read))
      const body = Buffer.from(JSON.stringify({ keys }))
      reserve(body.length)
      return reply.sendJson(body)
    }),
  })

  app.delete<{ Params: { id: string } }>('/v1/keys/:id', {
    schema: {
      ...common,
      operationId: 'revokeKey',
      summary: 'Revoke an API key; all instances refuse it within two seconds',
      params: KeyIdSchema,
      response: { 204: { type: 'null', description: 'The key is revoked', headers: HEADERS }, ...refusals() },
    },
    config,
    onRequest,
    handler: whileReading<{ Params: { id: string } }>(async (request, reply, { signal }) => {
      const { id } = request.params
      const revoke = async () => {
        if (!(await revokeKey(app.db.read, id))) throw unknown(app, id)
      }
      // Ids have only these characters. PostgreSQL cannot store U+0000, which another text may contain.
      if (!/^[\w-]+$/.test(id)) throw unknown(app, id)
      await change(request, signal, id, 'revoked', revoke)
      return reply.code(204).send()
    }),
  })

  /** Runs a query on a connection for single records. Only two at a time, so that one is left to the records. */
  function inTurn<T>(request: FastifyRequest, signal: AbortSignal, query: () => Promise<T>): Promise<T> {
    const { id } = request.key as Key
    const wait = { signal, maxMs: MAX_WAIT_MS }
    return queries.run(id, wait, () => app.semaphores.read.run(id, wait, query))
  }

  /** Runs a query that changes a key, and logs who did it: this must be known if a key with the scope `admin` has leaked. */
  async function change<T>(
    request: FastifyRequest,
    signal: AbortSignal,
    managedKey: string,
    done: 'created' | 'revoked',
    query: () => Promise<T>,
  ): Promise<T> {
    const [requestId, key] = [request.id, request.key?.id]
    try {
      const result = await inTurn(request, signal, query)
      app.log.info({ requestId, key, managedKey }, `an API key was ${done}`)
      return result
    } catch (error) {
      // If the client disconnected during the wait, the query was not sent.
      const isUnknown =
        error !== signal.reason && toProblem(error as FastifyError, request.method).outcome === 'unknown'
      if (isUnknown) app.log.warn({ requestId, key, managedKey }, `it is unknown whether an API key was ${done}`)
      throw error
    }
  }
}

export default routes

const MAX_WAIT_MS = 5_000

function unknown({ pathPrefix }: FastifyInstance, text: string): Problem {
  const id = idInKey(text)
  const detail = id === undefined ? `There is no key ${quoted(text)}.` : `This is a key, not its id. Its id is ${id}.`
  return new Problem('not_found', `${detail} GET ${pathPrefix}/v1/keys lists all keys.`)
}

import { Type } from '@sinclair/typebox'
import { Value, ValueErrorType } from '@sinclair/typebox/value'
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import { decodeText } from '../ingest/body.ts'
import { readEncoding } from '../ingest/inflate.ts'
import { parseJson } from '../ingest/parse-json.ts'
import { parseTime } from '../ingest/time.ts'
import { type Fault, Problem, type ProblemCode } from '../lib/problems.ts'
import { prefixFault } from '../lib/source-prefix.ts'
import type { Key } from '../operate/keys.ts'
import { createKey, type KeyRequest, listKeys, revokeKey } from '../operate/manage-keys.ts'
import { KeyIdSchema, KeyListSchema, type KeyRequestBody, KeyRequestSchema, NewKeySchema } from '../schemas/keys.ts'
import { ProblemSchema } from '../schemas/problem.ts'
import { openReservation, receiveBody } from './receive.ts'

/** Room for a name and a hundred source prefixes, also if JSON escapes every character. */
const MAX_BODY_BYTES = 512 * 1024
const LIMITS = { maxBatchBytes: MAX_BODY_BYTES, maxRecordBytes: MAX_BODY_BYTES }

const refused = { description: 'Refused', content: { 'application/problem+json': { schema: Type.Ref(ProblemSchema) } } }
const common = { tags: ['keys'], security: [{ key: [] }] }

/** POST and GET /v1/keys, DELETE /v1/keys/{id}: what `sluice keys` does, for keys with the scope `admin`. */
const routes: FastifyPluginAsync = async (app) => {
  const config = { shed: 'read' } as const
  const onRequest = [app.requireScope('admin'), requireAllSources]

  app.post('/v1/keys', {
    schema: {
      ...common,
      operationId: 'createKey',
      summary: 'Create an API key',
      description:
        'Only this response contains the key itself, in `token`. If the response is lost, revoke the key and create another one.',
      body: { content: { 'application/json': { schema: Type.Ref(KeyRequestSchema) } } },
      response: {
        201: { description: 'The new key', content: { 'application/json': { schema: Type.Ref(NewKeySchema) } } },
        default: refused,
      },
    },
    config: { ...config, readsBody: true },
    onRequest,
    // The handler reads the body and checks it.
    validatorCompiler: () => () => true,
    handler: async (request, reply) => {
      requireJson(request)
      const encoding = readEncoding(request.headers['content-encoding'])
      const hold = openReservation(request)
      try {
        const body = await receiveBody(request, reply, encoding, LIMITS, hold)
        const fields = readKeyRequest(parseJson(decodeText(body)))
        // The body may have taken a long time.
        app.keyNow(request, 'admin')
        const key = await inTurn(request, reply, () => createKey(app.db.read, fields))
        return reply.code(201).headers({ 'cache-control': 'no-store' }).sendJson(JSON.stringify(key))
      } finally {
        hold()
      }
    },
  })

  app.get('/v1/keys', {
    schema: {
      ...common,
      operationId: 'listKeys',
      summary: 'All API keys, without their secrets, oldest first',
      response: {
        200: { description: 'The keys', content: { 'application/json': { schema: Type.Ref(KeyListSchema) } } },
        default: refused,
      },
    },
    config,
    onRequest,
    handler: async (request, reply) => {
      const keys = await inTurn(request, reply, () => listKeys(app.db.read))
      return reply.sendJson(JSON.stringify({ keys }))
    },
  })

  app.delete<{ Params: { id: string } }>('/v1/keys/:id', {
    schema: {
      ...common,
      operationId: 'revokeKey',
      summary: 'Revoke an API key; all instances refuse it within two seconds',
      params: KeyIdSchema,
      response: { 204: { description: 'The key is revoked' }, default: refused },
    },
    config,
    onRequest,
    handler: async (request, reply) => {
      const { id } = request.params
      const found = await inTurn(request, reply, () => revokeKey(app.db.read, id))
      if (!found) throw new Problem('not_found', `There is no key ${id}. GET /v1/keys lists all keys.`)
      return reply.code(204).send()
    },
  })

  /** Runs a query on one of the connections for single records, which the keys share fairly. */
  function inTurn<T>(request: FastifyRequest, reply: FastifyReply, query: () => Promise<T>): Promise<T> {
    const { signal } = reply.beginReading()
    return app.semaphores.read.run((request.key as Key).id, { signal, maxMs: MAX_WAIT_MS }, query)
  }
}

export default routes

const MAX_WAIT_MS = 5_000

/** Otherwise a key that is limited to some sources could create a key for all of them. @throws Problem forbidden */
function requireAllSources({ key }: FastifyRequest, _reply: FastifyReply, done: (error?: Error) => void): void {
  const isLimited = (key as Key).sourcePrefixes.length > 0
  const detail = `The API key ${key?.id} is limited to source prefixes. Keys are managed with a key for all sources.`
  done(isLimited ? new Problem('forbidden', detail) : undefined)
}

/** @throws Problem unsupported_media_type */
function requireJson({ headers }: FastifyRequest): void {
  const [essence = ''] = (headers['content-type'] ?? '').split(';')
  if (essence.trim().toLowerCase() === 'application/json') return
  throw new Problem('unsupported_media_type', 'The Content-Type must be application/json.')
}

const CODES: Partial<Record<ValueErrorType, ProblemCode>> = {
  [ValueErrorType.ObjectRequiredProperty]: 'required',
  [ValueErrorType.ObjectAdditionalProperties]: 'unknown_field',
}

/** @throws Problem invalid_body, with an error for each wrong field */
function readKeyRequest(body: unknown): KeyRequest {
  const faults: Fault[] = []
  for (const { path, message, type, schema } of Value.Errors(KeyRequestSchema, body)) {
    // A missing field is reported twice: as missing, and as a value that does not match.
    if (faults.some(({ pointer }) => pointer === path)) continue
    const isChoice = type === ValueErrorType.Union && schema.description !== undefined
    const detail = `${path === '' ? 'The body' : path}: ${isChoice ? `expected ${schema.description}` : message}.`
    faults.push({ pointer: path, code: CODES[type] ?? 'invalid_value', detail })
  }
  if (faults.length === 0) {
    const { name, scopes, sourcePrefixes = [], recordsPerSecond, expiresAt } = body as KeyRequestBody
    sourcePrefixes.forEach((prefix, index) => {
      const fault = prefixFault(prefix)
      if (fault !== undefined) add(`/sourcePrefixes/${index}`, 'invalid_value', `The prefix ${fault}.`)
    })
    const time = expiresAt == null ? undefined : parseTime(expiresAt)
    if (time !== undefined && 'problem' in time) add('/expiresAt', 'invalid_time', `expiresAt ${time.problem}.`)
    const expiry = time !== undefined && 'utc' in time ? new Date(time.utc) : null
    if (expiry !== null && expiry.getTime() <= Date.now())
      add('/expiresAt', 'invalid_value', 'expiresAt is in the past.')
    if (faults.length === 0)
      return { name, scopes, sourcePrefixes, recordsPerSecond: recordsPerSecond ?? undefined, expiresAt: expiry }
  }
  throw new Problem('invalid_body', faults[0]?.detail ?? 'The body is invalid.', { errors: faults })

  function add(pointer: string, code: ProblemCode, detail: string): void {
    faults.push({ pointer, code, detail })
  }
}

import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import type { Config } from '../config.ts'
import { type Body, readBody } from '../ingest/body.ts'
import { readIdempotencyKey } from '../ingest/idempotency.ts'
import { ingest } from '../ingest/ingest.ts'
import { preferenceApplied, readPrefer } from '../ingest/prefer.ts'
import { Problem } from '../lib/problems.ts'
import type { Key } from '../operate/keys.ts'
import { ProblemSchema } from '../schemas/problem.ts'
import { RecordInputSchema } from '../schemas/record.ts'
import { ResultsSchema } from '../schemas/results.ts'

/** POST /v1/records */
const routes: FastifyPluginAsyncTypebox<{ config: Config }> = async (app, { config }) => {
  const limits = {
    maxRecordBytes: config.MAX_RECORD_BYTES,
    maxBatchBytes: config.MAX_BATCH_BYTES,
    maxBatchRecords: config.MAX_BATCH_RECORDS,
  }

  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', (request, payload, done) => {
    readBody(payload, Number(request.headers['content-length'] ?? 0), limits, app.budget).then(
      (body) => done(null, body),
      (error) => done(error),
    )
  })

  app.post('/v1/records', {
    schema: SCHEMA,
    onRequest: [app.requireScope('ingest'), checkHeaders],
    // The body is checked record by record, each with its own result: see ingest/envelope.ts.
    validatorCompiler: () => () => true,
    handler: async (request, reply) => {
      const body = request.body as unknown as Body | undefined
      if (body === undefined)
        throw new Problem('empty_body', 'The body is empty; a record or an array of records is expected.')
      try {
        const preferences = readPrefer(request.headers.prefer)
        const answer = await ingest(app.writer, limits, {
          ...body,
          key: request.key as Key,
          idempotencyKey: readIdempotencyKey(request.headers['idempotency-key']),
          traceparent: request.traceparent,
          preferences,
        })
        request.counts = answer.counts
        reply.code(answer.status)
        if (answer.location !== undefined) reply.header('location', answer.location)
        const applied = preferenceApplied(preferences)
        if (applied !== undefined) reply.header('preference-applied', applied)
        return reply.sendJson(answer.body)
      } finally {
        app.budget.give(body.bytes)
      }
    },
  })
}

export default routes

/** What can be refused before the body is read. */
async function checkHeaders(request: FastifyRequest): Promise<void> {
  const encoding = request.headers['content-encoding']
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
    throw new Problem(
      'unsupported_encoding',
      `Content-Encoding ${encoding} is not supported; send the body as it is.`,
      { headers: { 'accept-encoding': 'identity' } },
    )
  }
  // RFC 8259, section 8.1: JSON between systems is UTF-8.
  const charset = /;\s*charset\s*=\s*"?([^\s;"]+)/i.exec(request.headers['content-type'] ?? '')?.[1]
  if (charset !== undefined && !/^(utf-?8|us-ascii)$/i.test(charset)) {
    throw new Problem('unsupported_charset', `The charset ${charset} is not supported; JSON is sent in UTF-8.`)
  }
}

const SCHEMA = {
  operationId: 'ingest',
  summary: 'Store one record or an array of records',
  description:
    'Answers after the commit. Sending the same records again is safe: the identity of a record is (source, id).\n\n' +
    '201: something was created. 200: all were there already. 207: some records were refused, the others are stored.',
  tags: ['ingest'],
  security: [{ key: [] }],
  headers: Type.Object({
    'idempotency-key': Type.Optional(Type.String({ description: 'Makes the ids of records that have none' })),
    prefer: Type.Optional(
      Type.String({
        description: '`return=minimal`: only counts and failures. `handling=strict`: all or nothing (RFC 7240)',
      }),
    ),
    traceparent: Type.Optional(Type.String({ description: 'W3C trace context; kept with the records' })),
  }),
  body: Type.Union([Type.Ref(RecordInputSchema), Type.Array(Type.Ref(RecordInputSchema))]),
  response: {
    200: Type.Ref(ResultsSchema),
    201: Type.Ref(ResultsSchema),
    207: Type.Ref(ResultsSchema),
    default: { description: 'Refused', content: { 'application/problem+json': { schema: Type.Ref(ProblemSchema) } } },
  },
}

import { Type } from '@sinclair/typebox'
import { MAX_BYTES } from './formats.ts'
import { PageSchema } from './list.ts'
import { LINE_TYPES } from './media-types.ts'
import { RecordInputSchema } from './record.ts'
import { HEADERS, json, refusals, text } from './responses.ts'
import { ResultsSchema } from './results.ts'

const [EXAMPLE] = RecordInputSchema.examples

const record = Type.Ref(RecordInputSchema)
const lines = Type.String({
  description: 'One record per line, any number of lines',
  examples: [`${JSON.stringify(EXAMPLE)}\n${JSON.stringify({ ...EXAMPLE, id: '1002' })}\n`],
})

const rate = {
  'RateLimit-Policy': text('The rate of the key, if it has one'),
  RateLimit: text('What remains of the rate'),
}

const response = (description: string, headers = {}) =>
  json(ResultsSchema, description, {
    ...rate,
    'Preference-Applied': text('The preferences that were applied'),
    ...headers,
  })

/** The schema of POST /v1/records, for the OpenAPI document. */
export const INGEST_SCHEMA = {
  operationId: 'ingest',
  summary: 'Store records',
  description:
    'The response is sent after the commit. The identity of a record is (source, id). If records have an `id`, or the ' +
    'request an `Idempotency-Key`, resending is safe.\n\n' +
    'A record, a page or an export can be sent back as it was read: its records are duplicates.\n\n' +
    '201: at least one record was created. 200: all were already stored. 207: some were not stored, the others are.\n\n' +
    'A record has at most 1,000 members and 512 levels of nesting. The size of a record, and the size and number of records of a ' +
    'body, are bounded by the settings `MAX_RECORD_BYTES`, `MAX_BATCH_BYTES` and `MAX_BATCH_RECORDS`.\n\n' +
    'With any other media type and the headers `ce-specversion`, `ce-id`, `ce-source` and `ce-type`, the body is the data ' +
    'of a CloudEvent in binary mode.',
  tags: ['ingest'],
  security: [{ key: [] }],
  headers: Type.Object({
    'idempotency-key': Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: MAX_BYTES.idempotencyKey,
        description: 'Records without an id get one that is derived from it. Printable ASCII characters',
      }),
    ),
    prefer: Type.Optional(
      Type.String({
        description: '`return=minimal`: only counts and failures. `handling=strict`: all or nothing (RFC 7240)',
      }),
    ),
    traceparent: Type.Optional(Type.String({ description: 'W3C trace context; kept with the records' })),
    'content-encoding': Type.Optional(Type.String({ description: 'gzip, br, zstd or deflate' })),
  }),
  body: {
    content: {
      'application/json': {
        schema: Type.Union([record, Type.Array(record), Type.Ref(PageSchema)], { examples: [EXAMPLE, [EXAMPLE]] }),
      },
      ...Object.fromEntries(LINE_TYPES.map((type) => [type, { schema: lines }])),
      'application/cloudevents+json': { schema: record },
      'application/cloudevents-batch+json': { schema: Type.Array(record, { examples: [[EXAMPLE]] }) },
    },
  },
  response: {
    200: response('All records were already stored'),
    201: response('At least one record was created, and none failed', {
      Location: text('URL of the record, if the body is a single one'),
    }),
    207: response('Some records were not stored; the others are'),
    ...refusals({ ...rate, 'Accept-Post': text('With 415: the media types') }),
  },
}

/** The schema of OPTIONS /v1/records. */
export const HANDSHAKE_SCHEMA = {
  operationId: 'describeIngest',
  summary: 'What can be sent here; also the handshake of CloudEvents webhooks',
  description: 'A webhook sender that names its origin is allowed to send. Access depends only on the key.',
  tags: ['ingest'],
  headers: Type.Object({
    'webhook-request-origin': Type.Optional(Type.String({ description: 'The origin that asks for permission' })),
    'webhook-request-rate': Type.Optional(
      Type.String({ description: 'Requests per minute. The answer is always `*`' }),
    ),
  }),
  response: {
    200: {
      description: 'The methods and the media types',
      headers: {
        ...HEADERS,
        Allow: text('The methods'),
        'Accept-Post': text('The media types of POST'),
        'WebHook-Allowed-Origin': text('The origin, if the request names one'),
        'WebHook-Allowed-Rate': text('`*`: any rate'),
      },
      content: {
        'application/json': {
          schema: Type.Object({ methods: Type.Array(Type.String()), mediaTypes: Type.Array(Type.String()) }),
        },
      },
    },
    ...refusals(),
  },
}

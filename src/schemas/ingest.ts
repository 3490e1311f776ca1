import { Type } from '@sinclair/typebox'
import { PageSchema } from './list.ts'
import { LINE_TYPES } from './media-types.ts'
import { ProblemSchema } from './problem.ts'
import { RecordInputSchema } from './record.ts'
import { LinesReportSchema, ResultsSchema } from './results.ts'

const record = Type.Ref(RecordInputSchema)
const records = Type.Array(record)
const lines = Type.String({ description: 'One record per line, any number of lines' })

const response = {
  description: 'One result per record; for lines, the counts and the lines that were not stored',
  content: { 'application/json': { schema: Type.Union([Type.Ref(ResultsSchema), Type.Ref(LinesReportSchema)]) } },
}

/** The schema of POST /v1/records, for the OpenAPI document. */
export const INGEST_SCHEMA = {
  operationId: 'ingest',
  summary: 'Store records',
  description:
    'The response is sent after the commit. The identity of a record is (source, id). If records have an `id`, or the ' +
    'request an `Idempotency-Key`, resending is safe.\n\n' +
    'A record, a page or an export can be sent back as it was read: its records are duplicates.\n\n' +
    '201: at least one record was created. 200: all were already stored. 207: some were not stored, the others are.\n\n' +
    'With any other media type and the headers `ce-specversion`, `ce-id`, `ce-source` and `ce-type`, the body is the data ' +
    'of a CloudEvent in binary mode.',
  tags: ['ingest'],
  security: [{ key: [] }],
  headers: Type.Object({
    'idempotency-key': Type.Optional(
      Type.String({ description: 'Records without an id get one that is derived from it' }),
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
      'application/json': { schema: Type.Union([record, records, Type.Ref(PageSchema)]) },
      ...Object.fromEntries(LINE_TYPES.map((type) => [type, { schema: lines }])),
      'application/cloudevents+json': { schema: record },
      'application/cloudevents-batch+json': { schema: records },
    },
  },
  response: {
    200: response,
    201: response,
    207: response,
    default: { description: 'Refused', content: { 'application/problem+json': { schema: Type.Ref(ProblemSchema) } } },
  },
}

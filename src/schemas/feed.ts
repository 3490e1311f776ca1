import { type Static, Type } from '@sinclair/typebox'
import { MAX_LIMIT } from './list.ts'
import { RecordSchema } from './record.ts'
import { HEADERS, refusals, text } from './responses.ts'

const value = (description: string) => Type.Optional(Type.String({ minLength: 1, description }))

/** In seconds. */
const MAX_WAIT = 60

export const FeedQuerySchema = Type.Object(
  {
    offset: value(
      'Records after this offset: `Stream-Next-Offset` of the previous response, or the `cursor` of a record of the feed. `-1`, or nothing: from the start; `now`: only new records',
    ),
    live: Type.Optional(
      Type.Union([Type.Literal('long-poll'), Type.Literal('sse'), Type.Literal('true')], {
        description:
          '`long-poll`: if there is no record yet, wait for one; `sse`: server-sent events; `true`: with `Accept: application/x-ndjson`, lines without end',
      }),
    ),
    timeout: Type.Optional(
      Type.Number({
        minimum: 0,
        maximum: MAX_WAIT,
        description: 'With `live=long-poll`: how many seconds to wait. Default: 30',
      }),
    ),
    limit: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MAX_LIMIT,
        description: 'Maximum number of records of a page. Default: 1000',
      }),
    ),
    source: value('Records of this source'),
    sourcePrefix: value('Records whose source starts with this text'),
    type: Type.Optional(
      Type.Array(Type.String({ minLength: 1 }), {
        maxItems: 100,
        description: 'Records of this type; repeat it for several types',
      }),
    ),
    subject: value('Records with this subject'),
    cursor: value('`Stream-Cursor` of the previous response, so that caches tell the requests apart'),
  },
  // Clients of Durable Streams may send parameters of extensions. feed/query.ts refuses misspelt ones.
  { additionalProperties: true },
)

export type FeedQuery = Static<typeof FeedQuerySchema>

const common = { tags: ['read'], security: [{ key: [] }] }

const PAGE_HEADERS = {
  ...HEADERS,
  'Stream-Next-Offset': text('The offset to continue from'),
  'Stream-Up-To-Date': text('`true` if this offset is the end of the feed'),
  'Stream-Cursor': text('For the parameter `cursor` of the next request'),
  ETag: text('Identifies the page'),
}

/** The schema of GET /v1/feed. */
export const FEED_SCHEMA = {
  ...common,
  operationId: 'readFeed',
  summary: 'Follow all records in the order in which they were committed',
  description:
    'The read half of the Durable Streams protocol 1.0 in JSON mode: a page of records after `offset`, and in `Stream-Next-Offset` the ' +
    'offset to continue from. No record is ever added before an offset, so a reader that follows them misses none.\n\n' +
    'With `Accept: application/cloudevents-batch+json`, the page is an array of CloudEvents. With `Accept: application/x-ndjson`, the ' +
    'response is all records up to the head, one per line.\n\n' +
    'HEAD returns the offset of the head.',
  querystring: FeedQuerySchema,
  headers: Type.Object({
    'last-event-id': Type.Optional(
      Type.String({ description: 'With `live=sse`: continue after this event, whatever `offset` says' }),
    ),
    'if-none-match': Type.Optional(Type.String({ description: 'The ETag of an earlier response' })),
  }),
  response: {
    200: {
      description: 'A page',
      headers: PAGE_HEADERS,
      content: { 'application/json': { schema: Type.Array(Type.Ref(RecordSchema)) } },
    },
    204: { description: 'With `live=long-poll`: no record was added', headers: PAGE_HEADERS },
    304: { description: 'The page is the same as that with the ETag in `If-None-Match`', headers: PAGE_HEADERS },
    ...refusals(),
  },
}

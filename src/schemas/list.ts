import { type Static, Type } from '@sinclair/typebox'
import { RecordSchema } from './record.ts'

const time = (description: string) => Type.Optional(Type.String({ description: `${description} (RFC 3339)` }))
const text = (description: string) => Type.Optional(Type.String({ minLength: 1, description }))

export const MAX_LIMIT = 1000
export const DEFAULT_LIMIT = 100

export const ListQuerySchema = Type.Object(
  {
    source: text('Records of this source'),
    sourcePrefix: text('Records whose source starts with this text'),
    id: text('Records with this id'),
    type: text('Records of this type'),
    subject: text('Records with this subject'),
    timeFrom: time('Records with this time or a later one'),
    timeUntil: time('Records with an earlier time'),
    receivedFrom: time('Records received at this time or later'),
    receivedUntil: time('Records received before this time'),
    data: Type.Optional(
      Type.String({
        // Not as an example: the page at /docs would fill it in.
        description: 'JSON that the data must contain, in the sense of PostgreSQL\'s `@>`, such as `{"total":12.5}`',
      }),
    ),
    jsonpath: Type.Optional(
      Type.String({
        minLength: 1,
        description:
          "A condition in PostgreSQL's SQL/JSON path language that must be true of the data, such as `$.total > 10`, or a path to something that the data must contain, such as `$.items[*] ? (@.price > 10)`",
      }),
    ),
    fields: Type.Optional(
      Type.String({
        minLength: 1,
        description:
          'Return only these members of each record, in this order, such as `source,id,data.total,extensions.batch`. Those of the data are in `data`, those of the extension attributes in `extensions`; what a record does not have is null. In CSV, each is a column',
      }),
    ),
    count: Type.Optional(
      Type.Boolean({ description: 'On a page: also return the number of all records in the selection' }),
    ),
    order: Type.Optional(
      Type.Union([Type.Literal('desc'), Type.Literal('asc')], {
        default: 'desc',
        description: '`desc`: newest first; `asc`: in the order of the feed',
      }),
    ),
    limit: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MAX_LIMIT,
        description: 'Maximum number of records. Default: 100 on a page, all in a stream',
      }),
    ),
    cursor: text('`next` of the previous page, with the same filters and order'),
  },
  { additionalProperties: false },
)

export type ListQuery = Static<typeof ListQuerySchema>

export const PageSchema = Type.Object(
  {
    records: Type.Array(Type.Ref(RecordSchema)),
    next: Type.Union([Type.String(), Type.Null()], { description: '`cursor` of the next page; null on the last' }),
    count: Type.Optional(
      Type.Integer({ description: 'With `count=true`: the number of records on all pages, when the page was read' }),
    ),
  },
  { $id: 'Page' },
)

export const IdentitySchema = Type.Object({
  source: Type.String({ description: 'Percent-encoded, including slashes', examples: ['shop'] }),
  id: Type.String({
    description:
      'Percent-encoded, including slashes. Clients remove `.` and `..` from a path: list such a record instead',
    examples: ['1001'],
  }),
})

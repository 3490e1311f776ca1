import { type Static, Type } from '@sinclair/typebox'
import { RecordSchema } from './record.ts'

const time = (description: string) => Type.Optional(Type.String({ description: `${description} (RFC 3339)` }))
const text = (description: string) => Type.Optional(Type.String({ minLength: 1, description }))

export const MAX_LIMIT = 1000
export const DEFAULT_LIMIT = 100

export const ListQuerySchema = Type.Object(
  {
    source: text('Records of this source'),
    sourcePrefix: text('Records whose source begins so'),
    id: text('Records with this id'),
    type: text('Records of this type'),
    subject: text('Records with this subject'),
    timeFrom: time('Records of this time or later'),
    timeUntil: time('Records of before this time'),
    receivedFrom: time('Records received at this time or later'),
    receivedUntil: time('Records received before this time'),
    data: Type.Optional(
      Type.String({
        description: "JSON that the data must contain, as PostgreSQL's `@>` has it",
        examples: ['{"total":12.5}'],
      }),
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
        description: 'Most records; absent: 100 on a page, all in a stream',
      }),
    ),
    cursor: text('`next` of the page before, with the same filters and order'),
  },
  { additionalProperties: false },
)

export type ListQuery = Static<typeof ListQuerySchema>

export const PageSchema = Type.Object(
  {
    records: Type.Array(Type.Ref(RecordSchema)),
    next: Type.Union([Type.String(), Type.Null()], { description: '`cursor` of the next page; null on the last' }),
  },
  { $id: 'Page' },
)

export const IdentitySchema = Type.Object({
  source: Type.String({ description: 'Percent-encoded, slashes too' }),
  id: Type.String({
    description:
      'Percent-encoded, slashes too. Clients take `.` and `..` out of a path: ask the list for such a record',
  }),
})

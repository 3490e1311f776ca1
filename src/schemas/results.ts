import { type Static, Type } from '@sinclair/typebox'
import { type CountsSchema, FaultSchema, LINES_REPORT } from './problem.ts'

const { pointer, code, detail } = FaultSchema.properties

const StatusSchema = Type.Union([
  Type.Literal('created', { description: 'Stored by this request' }),
  Type.Literal('duplicate', { description: 'Already stored with the same content' }),
  Type.Literal('conflict', {
    description: 'Different content is already stored under this identity, and it stays unchanged',
  }),
  Type.Literal('rejected', { description: 'Not stored; see error' }),
])

export const ResultSchema = Type.Object(
  {
    index: Type.Integer({ description: 'Index of the record in the body, from 0' }),
    source: Type.Optional(Type.String()),
    id: Type.Optional(Type.String()),
    status: StatusSchema,
    cursor: Type.Optional(Type.String()),
    error: Type.Optional(Type.Object({ pointer, code, detail })),
  },
  { $id: 'Result' },
)

/** How many records had each result. */
export type Counts = Static<typeof CountsSchema>

export const ResultsSchema = Type.Object(
  {
    results: Type.Optional(
      Type.Array(Type.Ref(ResultSchema), {
        description:
          'One per record, in order; with `Prefer: return=minimal`, only failures. Lines have `rejections` instead',
      }),
    ),
    ...Type.Partial(Type.Object(LINES_REPORT)).properties,
    counts: LINES_REPORT.counts,
  },
  { $id: 'Results' },
)

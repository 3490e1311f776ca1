import { type Static, Type } from '@sinclair/typebox'
import { FaultSchema } from './problem.ts'

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

export const CountsSchema = Type.Object(
  { created: Type.Integer(), duplicate: Type.Integer(), conflict: Type.Integer(), rejected: Type.Integer() },
  { $id: 'Counts' },
)

/** How many records had each result. */
export type Counts = Static<typeof CountsSchema>

export const ResultsSchema = Type.Object(
  {
    counts: Type.Ref(CountsSchema),
    results: Type.Array(Type.Ref(ResultSchema), {
      description: 'One per record, in order; with `Prefer: return=minimal`, only failures',
    }),
  },
  { $id: 'Results' },
)

export const LinesReportSchema = Type.Object(
  {
    counts: Type.Ref(CountsSchema),
    lines: Type.Integer({ description: 'Lines that were read' }),
    committedLines: Type.Integer({ description: 'Every line up to this number has its final result' }),
    rejections: Type.Array(Type.Intersect([Type.Object({ line: Type.Integer() }), Type.Ref(FaultSchema)]), {
      description: 'The first 1,000 rejected or conflicting lines',
    }),
    rejectionsOmitted: Type.Integer({ description: 'Number of rejected or conflicting lines that are not listed' }),
  },
  { $id: 'LinesReport' },
)

import { Type } from '@sinclair/typebox'
import { PROBLEMS, type ProblemCode } from '../problems.ts'

export const CodeSchema = Type.Unsafe<ProblemCode>({
  $id: 'ProblemCode',
  type: 'string',
  enum: Object.keys(PROBLEMS),
  description: 'Stable. Later versions may add codes',
})

export const FaultSchema = Type.Object(
  {
    index: Type.Optional(Type.Integer({ description: 'Index of the record in the body' })),
    pointer: Type.Optional(Type.String({ description: 'JSON Pointer into the record' })),
    source: Type.Optional(Type.String()),
    id: Type.Optional(Type.String()),
    type: Type.Optional(Type.String()),
    code: Type.Ref(CodeSchema),
    detail: Type.String(),
  },
  { $id: 'Fault' },
)

export const CountsSchema = Type.Object(
  { created: Type.Integer(), duplicate: Type.Integer(), conflict: Type.Integer(), rejected: Type.Integer() },
  { $id: 'Counts' },
)

const RejectionSchema = Type.Object({
  line: Type.Integer({ description: 'Number of the line, from 1' }),
  ...Type.Omit(FaultSchema, ['index']).properties,
})

/** The members that the response to lines has, whether they were stored or refused. */
export const LINES_REPORT = {
  counts: Type.Ref(CountsSchema),
  lines: Type.Integer({ description: 'For lines: how many were read' }),
  committedLines: Type.Integer({ description: 'For lines: every line up to this number has its final result' }),
  rejections: Type.Array(RejectionSchema, {
    description: 'For lines: the first 1,000 rejected or conflicting ones',
  }),
  rejectionsOmitted: Type.Integer({ description: 'For lines: how many rejected or conflicting ones are not listed' }),
}

const table = Object.entries(PROBLEMS)
  .map(([code, { status, title, retryable }]) => `| \`${code}\` | ${status} | ${title} | ${retryable ? 'yes' : 'no'} |`)
  .join('\n')

export const ProblemSchema = Type.Object(
  {
    type: Type.String({ format: 'uri', description: '`urn:sluice:problem:` and the code' }),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String({ description: 'What happened, for people' }),
    instance: Type.String({ description: 'The path of the request' }),
    code: Type.Ref(CodeSchema),
    retryable: Type.Boolean({ description: 'Whether the same request may succeed later' }),
    outcome: Type.Union([Type.Literal('not_written'), Type.Literal('unknown')]),
    errors: Type.Optional(Type.Array(Type.Ref(FaultSchema))),
    ...Type.Partial(Type.Object(LINES_REPORT)).properties,
    requestId: Type.String({ description: 'As in the header X-Request-Id, and in the log' }),
  },
  {
    $id: 'Problem',
    additionalProperties: true,
    description: `RFC 9457 problem document.\n\n| code | status | means | retry |\n| --- | --- | --- | --- |\n${table}`,
  },
)

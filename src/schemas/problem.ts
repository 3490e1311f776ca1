import { Type } from '@sinclair/typebox'
import { PROBLEMS } from '../problems.ts'

export const FaultSchema = Type.Object(
  {
    index: Type.Optional(Type.Integer({ description: 'Index of the record in the body' })),
    pointer: Type.Optional(Type.String({ description: 'JSON Pointer into the record' })),
    source: Type.Optional(Type.String()),
    id: Type.Optional(Type.String()),
    code: Type.String(),
    detail: Type.String(),
  },
  { $id: 'Fault' },
)

const table = Object.entries(PROBLEMS)
  .map(([code, { status, title, retryable }]) => `| \`${code}\` | ${status} | ${title} | ${retryable ? 'yes' : 'no'} |`)
  .join('\n')

export const ProblemSchema = Type.Object(
  {
    type: Type.String(),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    instance: Type.String(),
    code: Type.String({ description: 'Stable; one of the codes in the table' }),
    retryable: Type.Boolean({ description: 'Whether the same request may succeed later' }),
    outcome: Type.Union([Type.Literal('not_written'), Type.Literal('unknown')]),
    errors: Type.Optional(Type.Array(Type.Ref(FaultSchema))),
    requestId: Type.String(),
  },
  {
    $id: 'Problem',
    additionalProperties: true,
    description: `RFC 9457 problem document.\n\n| code | status | means | retry |\n| --- | --- | --- | --- |\n${table}`,
  },
)

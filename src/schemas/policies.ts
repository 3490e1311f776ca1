import { type Static, Type } from '@sinclair/typebox'
import { SIZE } from '../lib/size.ts'
import type { TextFormat } from './formats.ts'
import { ExtensionValueSchema } from './record.ts'

const text = (format: TextFormat, description: string) => Type.Optional(Type.String({ format, description }))

const extensionValue = Type.Union(ExtensionValueSchema.anyOf, { title: 'text, a whole number, true or false' })

/** One retention policy. Each field has a `title` or a format that completes "must be …". */
export const PolicySchema = Type.Object(
  {
    type: text('sluice-name', 'Records of this type'),
    typePrefix: text('sluice-name', 'Records whose type starts with this text'),
    source: text('sluice-source', 'Records of this source'),
    sourcePrefix: text('sluice-text', 'Records whose source starts with this text'),
    extensions: Type.Optional(
      Type.Record(Type.String({ pattern: '^[a-z0-9]+$' }), extensionValue, {
        minProperties: 1,
        additionalProperties: false,
        title: 'extension attributes with their values: {"batch": "import-7"}',
        description: 'Records whose extension attributes have these values',
      }),
    ),
    rollups: Type.Optional(
      Type.Union([Type.Literal('minute'), Type.Literal('hour')], {
        title: '"minute" or "hour"',
        description: 'No records, but the rollups of this length, and of shorter ones, are deleted after maxAge',
      }),
    ),
    maxAge: Type.Optional(
      Type.String({
        // Nine digits of weeks are more than a timestamp can hold; see MAX_SECONDS in retention/policies.ts.
        pattern: '^[1-9][0-9]{0,8}[smhdw]$',
        title: 'a whole number and a unit, s, m, h, d or w: 30d',
        description: 'Records that were received longer ago are deleted',
      }),
    ),
    maxCount: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: Number.MAX_SAFE_INTEGER,
        title: 'a whole number',
        description: 'This many records are kept, the newest; 0: none',
      }),
    ),
    maxBytes: Type.Optional(
      Type.String({
        pattern: SIZE.source,
        title: 'a number and a unit, B, kB, MB, GB, TB, KiB, MiB, GiB or TiB: 500MB',
        description: 'The newest records that fit into this size are kept',
      }),
    ),
    keepForConsumers: Type.Optional(
      Type.Boolean({
        title: 'true or false',
        description: 'true: only records that every consumer has read are deleted',
      }),
    ),
  },
  { additionalProperties: false },
)

export const PoliciesSchema = Type.Array(PolicySchema)

export type PolicyInput = Static<typeof PolicySchema>

import { type Static, Type } from '@sinclair/typebox'
import type { FormatName } from './formats.ts'

const text = (format: FormatName, description: string) => Type.Optional(Type.String({ format, description }))

/** What one policy of retention says; each field has a `title` that completes "must be …", or a format that does. */
export const PolicySchema = Type.Object(
  {
    type: text('sluice-name', 'The records of this type'),
    typePrefix: text('sluice-name', 'Those whose type begins so'),
    source: text('sluice-source', 'The records of this source'),
    sourcePrefix: text('sluice-text', 'Those whose source begins so'),
    maxAge: Type.Optional(
      Type.String({
        // Nine digits of weeks are more than a timestamp holds; see MOST_SECONDS in operate/policies.ts.
        pattern: '^[1-9][0-9]{0,8}[smhdw]$',
        title: 'a whole number and a unit, s, m, h, d or w: 30d',
        description: 'Those that were received longer ago are removed',
      }),
    ),
    maxCount: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: Number.MAX_SAFE_INTEGER,
        title: 'a whole number of at least 1',
        description: 'So many are kept, the newest',
      }),
    ),
    maxBytes: Type.Optional(
      Type.String({
        pattern: '^[1-9][0-9]{0,8}([.][0-9]{1,3})?(B|[kMGT]B|[KMGT]iB)$',
        title: 'a number and a unit, B, kB, MB, GB, TB, KiB, MiB, GiB or TiB: 500MB',
        description: 'As many as take so much are kept, the newest',
      }),
    ),
  },
  { additionalProperties: false },
)

export const PoliciesSchema = Type.Array(PolicySchema)

export type PolicyInput = Static<typeof PolicySchema>

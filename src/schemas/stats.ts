import { type Static, Type } from '@sinclair/typebox'

/** The lengths of buckets, in seconds. */
export const BUCKET_SECONDS = { minute: 60, hour: 3_600, day: 86_400 } as const

/** A week of minutes, and more than a year of hours. */
export const MAX_BUCKETS = 10_080

/** With `by`, of all types or sources together. */
export const MAX_ENTRIES = 2 * MAX_BUCKETS

const time = (description: string) => Type.Optional(Type.String({ description: `${description} (RFC 3339)` }))
const text = (description: string) => Type.Optional(Type.String({ minLength: 1, description }))

const LengthSchema = Type.Union([Type.Literal('minute'), Type.Literal('hour'), Type.Literal('day')], {
  default: 'hour',
  description:
    'The length of a bucket. Days are those of UTC. Records from before the rollups are never counted per minute',
})

export const StatsQuerySchema = Type.Object(
  {
    bucket: Type.Optional(LengthSchema),
    from: time('Buckets that contain this time or a later one. Default: 60 minutes, 7 days or 90 days before `until`'),
    until: time('Buckets that begin before this time. Default: now'),
    by: Type.Optional(
      Type.Union([Type.Literal('type'), Type.Literal('source')], {
        description: 'Separate buckets for each type or source',
      }),
    ),
    limit: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 100,
        description:
          'With `by`: how many types or sources get separate buckets: those with the most records. The others are counted together, under null. Default: 20, or what a response can hold',
      }),
    ),
    type: text('Records of this type'),
    source: text('Records of this source'),
    sourcePrefix: text('Records whose source starts with this text'),
  },
  { additionalProperties: false },
)

export type StatsQuery = Static<typeof StatsQuerySchema>

const count = (description: string) => Type.Integer({ description })
const name = (what: string) =>
  Type.Optional(Type.Union([Type.String(), Type.Null()], { description: `With \`by=${what}\`; null: all others` }))

const BucketSchema = Type.Object({
  start: Type.String({ format: 'date-time' }),
  type: name('type'),
  source: name('source'),
  records: count('Records that were stored'),
  bytes: count('What their payloads took in the table, perhaps compressed'),
  duplicates: count('Records that were sent, and were already stored with the same content'),
  rejected: count('Records that were sent and not stored, conflicts included'),
})

export const StatsSchema = Type.Object(
  {
    bucket: LengthSchema,
    from: Type.String({ format: 'date-time' }),
    until: Type.String({ format: 'date-time' }),
    lagSeconds: Type.Number({ description: 'Age of the oldest record that is not counted yet; 0: all are counted' }),
    backfill: Type.Union([Type.Number(), Type.Null()], {
      description:
        'Records that are older than the rollups are counted in the background: about which share of them is done, from 0 to 1; null: all',
    }),
    isLimited: Type.Boolean({
      description:
        'true: there are more types and sources than ROLLUP_MAX_SERIES. The later ones are counted under null, and selecting one of them finds nothing',
    }),
    buckets: Type.Array(BucketSchema, {
      description: 'By time. Those without records, duplicates and rejected records are left out',
    }),
  },
  { $id: 'Stats' },
)

export type StatsDocument = Static<typeof StatsSchema>

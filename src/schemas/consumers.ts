import { type Static, Type } from '@sinclair/typebox'

export const ConsumerRequestSchema = Type.Object(
  {
    offset: Type.String({
      description:
        'How far the consumer has read: `Stream-Next-Offset` of the feed, or the `cursor` of a record of the feed. `-1`: the start; `now`: the end at this time',
    }),
  },
  { $id: 'ConsumerRequest', additionalProperties: false, examples: [{ offset: '-1' }] },
)

export type ConsumerRequest = Static<typeof ConsumerRequestSchema>

const time = (description: string) => Type.String({ format: 'date-time', description })

const LagSchema = Type.Object({
  records: Type.Integer({ description: 'Records of the feed after the offset, of all sources and types' }),
  isExact: Type.Boolean({
    description: 'false: there are more than 10,000 records, and their number is an estimate',
  }),
  seconds: Type.Number({ description: 'Age of the oldest of these records; 0: the consumer has read everything' }),
})

const fields = {
  name: Type.String(),
  offset: Type.String({ description: 'Continue the feed after this offset' }),
  createdAt: time('When it was created'),
  updatedAt: time('When its offset was last stored'),
  overtakenAt: Type.Union([Type.String({ format: 'date-time' }), Type.Null()], {
    description: 'When retention last deleted records that the consumer had not read; null: never',
  }),
}

/** The response to PUT. It has no lag: for a consumer that is far behind, measuring that takes longer than storing the offset. */
export const StoredConsumerSchema = Type.Object(fields, { $id: 'StoredConsumer' })

export type StoredConsumerDocument = Static<typeof StoredConsumerSchema>

export const ConsumerSchema = Type.Object({ ...fields, lag: LagSchema }, { $id: 'Consumer' })

export type ConsumerDocument = Static<typeof ConsumerSchema>

export const ConsumerListSchema = Type.Object(
  { consumers: Type.Array(Type.Ref(ConsumerSchema)) },
  { $id: 'ConsumerList' },
)

export const ConsumerNameSchema = Type.Object({
  name: Type.String({
    description: '1 to 128 letters, digits, `.`, `_` and `-`. All keys with the scope `read` share the names',
    examples: ['billing'],
  }),
})

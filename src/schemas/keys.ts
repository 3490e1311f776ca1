import { type Static, Type } from '@sinclair/typebox'

const ScopeSchema = Type.Union([Type.Literal('ingest'), Type.Literal('read'), Type.Literal('admin')], {
  description: 'one of ingest, read, admin',
})

const nullableTime = (description: string) =>
  Type.Union([Type.String({ format: 'date-time' }), Type.Null()], { description })

const fields = {
  name: Type.String({ minLength: 1, maxLength: 256, description: 'A name for people; it has no effect' }),
  scopes: Type.Array(ScopeSchema, { minItems: 1, uniqueItems: true }),
  sourcePrefixes: Type.Array(Type.String(), {
    description:
      'Sources that the key can use: `shop` allows `shop` and every source that continues it with `/`, `:` or `.`; `shop*` allows every source that starts with `shop`; empty: all',
    maxItems: 100,
  }),
  recordsPerSecond: Type.Union([Type.Integer({ minimum: 1, maximum: 1_000_000 }), Type.Null()], {
    description: 'Limit per instance, an integer from 1 to 1000000; null: KEY_RECORDS_PER_SECOND',
  }),
  expiresAt: Type.Union([Type.String(), Type.Null()], { description: 'a time (RFC 3339); null: never' }),
}

export const KeyRequestSchema = Type.Object(
  {
    name: fields.name,
    scopes: fields.scopes,
    sourcePrefixes: Type.Optional(fields.sourcePrefixes),
    recordsPerSecond: Type.Optional(fields.recordsPerSecond),
    expiresAt: Type.Optional(fields.expiresAt),
  },
  {
    $id: 'KeyRequest',
    additionalProperties: false,
    examples: [{ name: 'shop', scopes: ['ingest'], sourcePrefixes: ['shop'] }],
  },
)

export type KeyRequestBody = Static<typeof KeyRequestSchema>

export const KeySchema = Type.Object(
  {
    id: Type.String(),
    ...fields,
    expiresAt: nullableTime('null: never'),
    createdAt: Type.String({ format: 'date-time' }),
    revokedAt: nullableTime('null: not revoked'),
    state: Type.Union([Type.Literal('active'), Type.Literal('expired'), Type.Literal('revoked')]),
  },
  { $id: 'Key' },
)

export type KeyDocument = Static<typeof KeySchema>

export const NewKeySchema = Type.Object(
  { ...KeySchema.properties, token: Type.String({ description: 'The key itself. It is not shown again' }) },
  { $id: 'NewKey' },
)

export const KeyListSchema = Type.Object({ keys: Type.Array(Type.Ref(KeySchema)) }, { $id: 'KeyList' })

export const KeyIdSchema = Type.Object({
  id: Type.String({ description: 'The id of the key, such as `3f9c1a2b4d5e`, not the key itself' }),
})

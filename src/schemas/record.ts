import { Type } from '@sinclair/typebox'
import type { FormatName } from './formats.ts'

const text = (format: FormatName, description: string, examples: string[] = []) =>
  Type.String({ format, description, ...(examples.length > 0 ? { examples } : {}) })

/** A value that a CloudEvents extension attribute may have in JSON: string, boolean or 32-bit integer. */
export const ExtensionValueSchema = Type.Union([
  text('sluice-extension', 'A string'),
  Type.Boolean(),
  Type.Integer({ minimum: -2147483648, maximum: 2147483647 }),
])

/** CloudEvents 1.0.2, section 3.1: lower-case letters and digits. */
export const EXTENSION_NAME = /^[a-z0-9]+$/

/** A record as a client sends it, but for its extension attributes. */
export const RecordInputSchema = Type.Object(
  {
    specversion: Type.Optional(Type.Literal('1.0', { description: 'CloudEvents version' })),
    source: text('sluice-source', 'Where it happened: a URI-reference of 1 to 512 bytes', [
      'shop',
      'https://example.com/shop',
    ]),
    type: text('sluice-name', 'What kind of thing happened: 1 to 256 bytes', ['order.placed']),
    id: Type.Optional(
      text(
        'sluice-name',
        'With `source`, the identity of the record: 1 to 256 bytes. Absent: derived from `Idempotency-Key`, else made by the server',
        ['1001'],
      ),
    ),
    time: Type.Optional(
      Type.String({
        description: 'RFC 3339; kept to the microsecond. Absent: the time of receipt',
        examples: ['2026-01-31T12:00:00Z'],
      }),
    ),
    subject: Type.Optional(text('sluice-text', 'What it is about')),
    dataschema: Type.Optional(text('sluice-uri', 'Schema that `data` adheres to')),
    datacontenttype: Type.Optional(text('sluice-media-type', 'Media type of the data')),
    data: Type.Optional(Type.Unknown({ description: 'Any JSON', examples: [{ total: 12.5 }] })),
    data_base64: Type.Optional(text('sluice-base64', 'Bytes, instead of `data`')),
  },
  {
    // Not compiled into the check, which takes the extensions apart itself; here for the OpenAPI document.
    $id: 'RecordInput',
    description:
      'One thing that happened, in CloudEvents 1.0 terms. Other lower-case alphanumeric names are extension attributes.',
    additionalProperties: ExtensionValueSchema,
  },
)

/** A record as it is read back: what was sent, and what the server added. */
export const RecordSchema = Type.Object(
  {
    specversion: Type.Literal('1.0'),
    source: Type.String(),
    id: Type.String(),
    type: Type.String(),
    time: Type.String({ format: 'date-time', description: 'As sent, in UTC; else the time of receipt' }),
    subject: Type.Optional(Type.String()),
    dataschema: Type.Optional(Type.String()),
    datacontenttype: Type.Optional(Type.String()),
    data: Type.Optional(Type.Unknown({ description: 'The very text that was sent' })),
    data_base64: Type.Optional(Type.String()),
    receivedAt: Type.String({
      format: 'date-time',
      description: "Time of the transaction that wrote it, by the database's clock",
    }),
    cursor: Type.String({ description: 'Where it stands in the feed; opaque' }),
  },
  { $id: 'Record', additionalProperties: ExtensionValueSchema },
)

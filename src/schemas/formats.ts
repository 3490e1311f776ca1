import { FormatRegistry } from '@sinclair/typebox'

/** What CloudEvents 1.0.2, section 3.1 ("String") forbids: control characters, lone surrogates, noncharacters. */
export const FORBIDDEN = /[\p{Cc}\p{Cs}\p{Noncharacter_Code_Point}]/u

/** RFC 3986, appendix A: the characters of a URI-reference, with `%` only before two hexadecimal digits. */
const URI_REFERENCE =
  /^(?:[a-z][a-z0-9+.-]*:|(?![^/?#]*:))(?:\/\/(?:[\w.~!$&'()*+,;=:@-]|%[\da-f]{2})*(?:\[[\da-f:.v]+\](?::\d*)?)?(?=[/?#]|$))?(?:[\w.~!$&'()*+,;=:@/-]|%[\da-f]{2})*(?:\?(?:[\w.~!$&'()*+,;=:@/?-]|%[\da-f]{2})*)?(?:#(?:[\w.~!$&'()*+,;=:@/?-]|%[\da-f]{2})*)?$/i

export const isUriReference = (text: string): boolean => URI_REFERENCE.test(text)

const SCHEME = /^[a-z][a-z0-9+.-]*:/i

/** RFC 2045, section 5.1: type "/" subtype *(";" parameter). */
const MEDIA_TYPE =
  /^[\w!#$&^.+-]+\/[\w!#$&^.+-]+(?:\s*;\s*[\w!#$%&'*+.^`|~-]+=(?:[\w!#$%&'*+.^`|~-]+|"(?:[^"\\]|\\.)*"))*$/

/** RFC 4648, section 4: padded, no line breaks. Unused bits are zero (section 3.5), otherwise the text read back would differ. */
const BASE64 = /^[A-Za-z0-9+/]*(?:[AQgw]==|[AEIMQUYcgkosw048]=)?$/

/** Maximum sizes in bytes of UTF-8. What is not listed here is bounded only by MAX_RECORD_BYTES. */
export const MAX_BYTES = {
  // These are keys: of a record, and of what is counted or kept per type. A row of a PostgreSQL index has at most 2,704 bytes.
  source: 512,
  id: 256,
  type: 256,
  // The regular expressions above would exhaust V8's stack for them at about 10 MiB. CloudEvents 1.0.2 ("Size Limits") requires that
  // 64 KiB are accepted.
  dataschema: 65_536,
  datacontenttype: 65_536,
  // It is used as an id. In a batch, the index of the record follows.
  idempotencyKey: 240,
}

const fits = (value: string, max: number) =>
  value.length > 0 && value.length <= max && (value.length * 3 <= max || Buffer.byteLength(value) <= max)

interface FormatRule {
  test(value: string): boolean
  /** Completes "must be …". */
  says: string
  /** The same in JSON Schema, as far as it can say it: lengths there are in characters. */
  schema: { format?: string; minLength?: number; maxLength?: number; contentEncoding?: string }
}

/** Formats that JSON Schema lacks. Sizes are in bytes of UTF-8, because PostgreSQL's indexes limit bytes. */
export const FORMATS = {
  'sluice-source': {
    test: (value) => fits(value, MAX_BYTES.source) && isUriReference(value),
    says: `a URI-reference (RFC 3986) of 1 to ${MAX_BYTES.source} bytes`,
    schema: { format: 'uri-reference', minLength: 1, maxLength: MAX_BYTES.source },
  },
  'sluice-name': {
    test: (value) => fits(value, MAX_BYTES.id) && !FORBIDDEN.test(value),
    says: `text of 1 to ${MAX_BYTES.id} bytes without control characters, lone surrogates or noncharacters`,
    schema: { minLength: 1, maxLength: MAX_BYTES.id },
  },
  'sluice-text': {
    test: (value) => value !== '' && !FORBIDDEN.test(value),
    says: 'text without control characters, lone surrogates or noncharacters, and not empty',
    schema: { minLength: 1 },
  },
  'sluice-extension': {
    test: (value) => !FORBIDDEN.test(value),
    says: 'text without control characters, lone surrogates or noncharacters',
    schema: {},
  },
  'sluice-uri': {
    test: (value) => fits(value, MAX_BYTES.dataschema) && SCHEME.test(value) && isUriReference(value),
    says: `an absolute URI (RFC 3986) of at most ${MAX_BYTES.dataschema} bytes`,
    schema: { format: 'uri', minLength: 1, maxLength: MAX_BYTES.dataschema },
  },
  'sluice-media-type': {
    test: (value) => fits(value, MAX_BYTES.datacontenttype) && MEDIA_TYPE.test(value),
    says: `a media type (RFC 2046) of at most ${MAX_BYTES.datacontenttype} bytes`,
    schema: { minLength: 1, maxLength: MAX_BYTES.datacontenttype },
  },
  'sluice-base64': {
    test: (value) => value.length % 4 === 0 && BASE64.test(value),
    says: 'base64 (RFC 4648, section 4)',
    schema: { contentEncoding: 'base64' },
  },
} as const satisfies Record<string, FormatRule>

export type TextFormat = keyof typeof FORMATS

for (const [name, { test }] of Object.entries(FORMATS)) FormatRegistry.Set(name, test)

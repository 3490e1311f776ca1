import { FormatRegistry } from '@sinclair/typebox'

/** What CloudEvents 1.0.2, section 3.1 ("String") forbids: control characters, lone surrogates, noncharacters. */
const FORBIDDEN = /[\p{Cc}\p{Cs}\p{Noncharacter_Code_Point}]/u

/** RFC 3986, appendix A: the characters of a URI-reference, with `%` only before two hexadecimal digits. */
const URI_REFERENCE =
  /^(?:[a-z][a-z0-9+.-]*:|(?![^/?#]*:))(?:\/\/(?:[\w.~!$&'()*+,;=:@-]|%[\da-f]{2})*(?:\[[\da-f:.v]+\](?::\d*)?)?(?=[/?#]|$))?(?:[\w.~!$&'()*+,;=:@/-]|%[\da-f]{2})*(?:\?(?:[\w.~!$&'()*+,;=:@/?-]|%[\da-f]{2})*)?(?:#(?:[\w.~!$&'()*+,;=:@/?-]|%[\da-f]{2})*)?$/i

const SCHEME = /^[a-z][a-z0-9+.-]*:/i

/** RFC 2045, section 5.1: type "/" subtype *(";" parameter). */
const MEDIA_TYPE =
  /^[\w!#$&^.+-]+\/[\w!#$&^.+-]+(?:\s*;\s*[\w!#$%&'*+.^`|~-]+=(?:[\w!#$%&'*+.^`|~-]+|"(?:[^"\\]|\\.)*"))*$/

/** RFC 4648, section 4: padded, no line breaks. Unused bits are zero (section 3.5), otherwise the text read back would differ. */
const BASE64 = /^[A-Za-z0-9+/]*(?:[AQgw]==|[AEIMQUYcgkosw048]=)?$/

const fits = (value: string, max: number) =>
  value.length > 0 && value.length <= max && (value.length * 3 <= max || Buffer.byteLength(value) <= max)

interface FormatRule {
  test(value: string): boolean
  /** Completes "must be …". */
  says: string
}

/** Formats that JSON Schema lacks. Sizes are in bytes of UTF-8, because PostgreSQL's indexes limit bytes. */
export const FORMATS = {
  'sluice-source': {
    test: (value) => fits(value, 512) && URI_REFERENCE.test(value),
    says: 'a URI-reference (RFC 3986) of 1 to 512 bytes',
  },
  'sluice-name': {
    test: (value) => fits(value, 256) && !FORBIDDEN.test(value),
    says: 'text of 1 to 256 bytes without control characters, lone surrogates or noncharacters',
  },
  'sluice-text': {
    test: (value) => fits(value, 1024) && !FORBIDDEN.test(value),
    says: 'text of 1 to 1024 bytes without control characters, lone surrogates or noncharacters',
  },
  'sluice-extension': {
    test: (value) => !FORBIDDEN.test(value),
    says: 'text without control characters, lone surrogates or noncharacters',
  },
  'sluice-uri': {
    test: (value) => fits(value, 1024) && SCHEME.test(value) && URI_REFERENCE.test(value),
    says: 'an absolute URI (RFC 3986) of at most 1024 bytes',
  },
  'sluice-media-type': {
    test: (value) => fits(value, 1024) && MEDIA_TYPE.test(value),
    says: 'a media type (RFC 2046)',
  },
  'sluice-base64': {
    test: (value) => value.length % 4 === 0 && BASE64.test(value),
    says: 'base64 (RFC 4648, section 4)',
  },
} as const satisfies Record<string, FormatRule>

export type TextFormat = keyof typeof FORMATS

for (const [name, { test }] of Object.entries(FORMATS)) FormatRegistry.Set(name, test)

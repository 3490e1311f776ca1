import { Problem } from '../problems.ts'
import { MAX_BYTES } from '../schemas/formats.ts'

/** A structured-field string (RFC 8941, section 3.3.3). */
const QUOTED = /^"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"$/

const OTHER = 'It has another character, or a space at its end'

/**
 * Reads the header of draft-ietf-httpapi-idempotency-key-header. The draft requires quotes; most clients omit them.
 * @throws Problem invalid_header
 */
export function readIdempotencyKey(header: string | string[] | undefined): string | undefined {
  if (header === undefined) return undefined
  const key = typeof header === 'string' ? (QUOTED.exec(header)?.[1]?.replaceAll(/\\(.)/g, '$1') ?? header) : ''
  if (!/^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(key) || key.length > MAX_BYTES.idempotencyKey) {
    const fault = key === '' ? 'It is empty' : key.length > MAX_BYTES.idempotencyKey ? `It has ${key.length}` : OTHER
    const detail = `Idempotency-Key must be 1 to ${MAX_BYTES.idempotencyKey} printable ASCII characters. ${fault}. An example is a UUID.`
    throw new Problem('invalid_header', detail, {
      errors: [{ pointer: 'Idempotency-Key', code: 'invalid_header', detail }],
    })
  }
  return key
}

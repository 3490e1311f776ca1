import type { KeyRequest } from '../access/manage-keys.ts'
import { parseTime } from '../lib/rfc3339.ts'
import { prefixFault } from '../lib/source-prefix.ts'
import { timeHint } from '../lib/time-hint.ts'
import type { Fault, ProblemCode } from '../problems.ts'
import { type KeyRequestBody, KeyRequestSchema } from '../schemas/keys.ts'
import { invalidBody, readObject } from './read-object.ts'

const EXPECTED = [
  [/^$/, 'an object such as {"name":"shop","scopes":["ingest"]}'],
  [/^\/name$/, 'a string of 1 to 256 characters'],
  [/^\/scopes\/\d+$/, 'one of ingest, read, admin'],
  [/^\/recordsPerSecond$/, 'an integer from 1 to 1000000, or null'],
  [/^\/expiresAt$/, 'a time (RFC 3339) such as "2027-01-31T12:00:00Z", or null'],
  [/^\/scopes$/, 'a list such as ["ingest"], of ingest, read, admin'],
  [/^\/sourcePrefixes$/, 'a list of at most 100 texts, such as ["shop"]'],
] as const

/** Such as those of the options of `sluice keys create`. */
const ALIASES = { rate: 'recordsPerSecond', ratelimit: 'recordsPerSecond', expires: 'expiresAt', expiry: 'expiresAt' }

const hint = (pointer: string, value: unknown) =>
  pointer === '/expiresAt' && typeof value === 'number' ? timeHint(value) : ''

/**
 * Reads the body of POST /v1/keys.
 * @throws Problem invalid_json, too_deep; invalid_body, with an error for each wrong field
 */
export const readKeyRequest = (text: string): KeyRequest =>
  checkValues(readObject(text, KeyRequestSchema, { expected: EXPECTED, aliases: ALIASES, hint }) as KeyRequestBody)

/** Checks what the schema cannot say. */
function checkValues({ name, scopes, sourcePrefixes = [], recordsPerSecond, expiresAt }: KeyRequestBody): KeyRequest {
  const faults: Fault[] = []
  if (name.includes('\0') || !name.isWellFormed())
    add('/name', 'unstorable_string', 'The name contains U+0000 or a lone surrogate, which PostgreSQL cannot store.')
  sourcePrefixes.forEach((prefix, index) => {
    const fault = prefixFault(prefix)
    if (fault !== undefined) add(`/sourcePrefixes/${index}`, 'invalid_value', `The prefix ${fault}.`)
  })
  const time = expiresAt == null ? undefined : parseTime(expiresAt)
  if (time !== undefined && 'problem' in time)
    add('/expiresAt', 'invalid_time', `expiresAt ${time.problem}.${timeHint(expiresAt ?? '')}`)
  const expiry = time !== undefined && 'utc' in time ? new Date(time.utc) : null
  if (expiry !== null && expiry.getTime() <= Date.now()) add('/expiresAt', 'invalid_value', 'expiresAt is in the past.')
  if (faults.length > 0) throw invalidBody(faults)
  return { name, scopes, sourcePrefixes, recordsPerSecond: recordsPerSecond ?? undefined, expiresAt: expiry }

  function add(pointer: string, code: ProblemCode, detail: string): void {
    faults.push({ pointer, code, detail })
  }
}

import { Value, ValueErrorType } from '@sinclair/typebox/value'
import type { KeyRequest } from '../access/manage-keys.ts'
import { findRepeatedName, parseOutermost } from '../lib/json/elements.ts'
import { parseJson } from '../lib/json/parse.ts'
import { pointerToken } from '../lib/json/unstorable.ts'
import { didYouMean } from '../lib/nearest.ts'
import { parseTime } from '../lib/rfc3339.ts'
import { prefixFault } from '../lib/source-prefix.ts'
import { timeHint } from '../lib/time-hint.ts'
import { type Fault, Problem, type ProblemCode } from '../problems.ts'
import { type KeyRequestBody, KeyRequestSchema } from '../schemas/keys.ts'

/** Maximum number of faults that a response names. A body can have a hundred thousand, and each one costs time and memory. */
const MAX_FAULTS = 100

/** Longer names, which only unknown fields have, are cut: a response would repeat a name of half a megabyte. */
const MAX_NAME_LENGTH = 256

const CODES: Partial<Record<ValueErrorType, ProblemCode>> = {
  [ValueErrorType.ObjectRequiredProperty]: 'required',
  [ValueErrorType.ObjectAdditionalProperties]: 'unknown_field',
}

/** Expected values, for fields where the message of the schema does not say them. */
const EXPECTED: [pointer: RegExp, expected: string][] = [
  [/^$/, 'an object such as {"name":"shop","scopes":["ingest"]}'],
  [/^\/name$/, 'a string of 1 to 256 characters'],
  [/^\/scopes\/\d+$/, 'one of ingest, read, admin'],
  [/^\/recordsPerSecond$/, 'an integer from 1 to 1000000, or null'],
  [/^\/expiresAt$/, 'a time (RFC 3339) such as "2027-01-31T12:00:00Z", or null'],
  [/^\/scopes$/, 'a list such as ["ingest"], of ingest, read, admin'],
  [/^\/sourcePrefixes$/, 'a list of at most 100 texts, such as ["shop"]'],
]

/**
 * Reads the body of POST /v1/keys.
 * @throws Problem invalid_json, too_deep; invalid_body, with an error for each wrong field
 */
export function readKeyRequest(text: string): KeyRequest {
  const body = parseOutermost(parseJson(text), text)
  const repeated = findRepeatedName(text)
  if (repeated !== undefined) {
    const pointer = `/${pointerToken(repeated)}`.slice(0, MAX_NAME_LENGTH)
    throw invalid([{ pointer, code: 'repeated_field', detail: `${pointer}: The field occurs twice. Send it once.` }])
  }
  const faults = schemaFaults(body)
  if (faults.length > 0) throw invalid(faults)
  return checkValues(body as KeyRequestBody)
}

function schemaFaults(body: unknown): Fault[] {
  const faults = new Map<string, Fault>()
  for (const { path, message, type, value } of Value.Errors(KeyRequestSchema, body)) {
    // A missing field is reported twice: as missing, and as a value that does not match.
    if (faults.has(path)) continue
    const [, expected] = EXPECTED.find(([pointer]) => pointer.test(path)) ?? []
    const pointer = path.slice(0, MAX_NAME_LENGTH)
    const isUnknown = type === ValueErrorType.ObjectAdditionalProperties
    const hint = path === '/expiresAt' && typeof value === 'number' ? timeHint(value) : ''
    const what = isUnknown
      ? unknownField(path)
      : expected === undefined
        ? `${message}.`
        : `expected ${expected}.${hint}`
    const detail = `${pointer === '' ? 'The body' : pointer}: ${what}`
    faults.set(path, { pointer, code: CODES[type] ?? 'invalid_value', detail })
    if (faults.size === MAX_FAULTS) break
  }
  return [...faults.values()]
}

const FIELDS = Object.keys(KeyRequestSchema.properties)

/** Other names for fields, such as those of the options of `sluice keys create`. */
const ALIASES = { rate: 'recordsPerSecond', ratelimit: 'recordsPerSecond', expires: 'expiresAt', expiry: 'expiresAt' }

const unknownField = (path: string) =>
  `the field is unknown.${didYouMean(path.slice(1), FIELDS, ALIASES)} The fields are ${FIELDS.join(', ')}.`

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
  if (faults.length > 0) throw invalid(faults)
  return { name, scopes, sourcePrefixes, recordsPerSecond: recordsPerSecond ?? undefined, expiresAt: expiry }

  function add(pointer: string, code: ProblemCode, detail: string): void {
    faults.push({ pointer, code, detail })
  }
}

const invalid = (errors: Fault[]) => new Problem('invalid_body', errors[0]?.detail ?? '', { errors })

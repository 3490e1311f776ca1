import type { TObject } from '@sinclair/typebox'
import { Value, ValueErrorType } from '@sinclair/typebox/value'
import { findRepeatedName, parseOutermost } from '../lib/json/elements.ts'
import { parseJson } from '../lib/json/parse.ts'
import { pointerToken } from '../lib/json/unstorable.ts'
import { didYouMean } from '../lib/nearest.ts'
import { type Fault, Problem, type ProblemCode } from '../problems.ts'

/** Maximum number of faults that a response names. A body can have a hundred thousand, and each one costs time and memory. */
const MAX_FAULTS = 100

/** Longer names, which only unknown fields have, are cut: a response would repeat a name of half a megabyte. */
const MAX_NAME_LENGTH = 256

const CODES: Partial<Record<ValueErrorType, ProblemCode>> = {
  [ValueErrorType.ObjectRequiredProperty]: 'required',
  [ValueErrorType.ObjectAdditionalProperties]: 'unknown_field',
}

/** What the messages about the fields of a body say. */
interface Advice {
  /** Expected values, for fields where the message of the schema does not say them. */
  expected: readonly (readonly [pointer: RegExp, expected: string])[]
  /** Other names for fields, in lower case. */
  aliases: Readonly<Record<string, string>>
  /** What a wrong value of a field probably is: a sentence after a space, or ''. */
  hint?: (pointer: string, value: unknown) => string
}

/**
 * Reads a body that is one JSON object.
 * @returns a value that matches the schema
 * @throws Problem invalid_json, too_deep; invalid_body, with an error for each wrong field
 */
export function readObject(text: string, schema: TObject, advice: Advice): unknown {
  const body = parseOutermost(parseJson(text), text)
  const repeated = findRepeatedName(text)
  if (repeated !== undefined) {
    const pointer = `/${pointerToken(repeated)}`.slice(0, MAX_NAME_LENGTH)
    throw invalidBody([
      { pointer, code: 'repeated_field', detail: `${pointer}: The field occurs twice. Send it once.` },
    ])
  }
  const faults = schemaFaults(body, schema, advice)
  if (faults.length > 0) throw invalidBody(faults)
  return body
}

function schemaFaults(body: unknown, schema: TObject, { expected, aliases, hint = () => '' }: Advice): Fault[] {
  const fields = Object.keys(schema.properties)
  const unknownField = (path: string) =>
    `the field is unknown.${didYouMean(path.slice(1), fields, aliases)} The fields are ${fields.join(', ')}.`
  const faults = new Map<string, Fault>()
  for (const { path, message, type, value } of Value.Errors(schema, body)) {
    // A missing field is reported twice: as missing, and as a value that does not match.
    if (faults.has(path)) continue
    const [, wanted] = expected.find(([pointer]) => pointer.test(path)) ?? []
    const pointer = path.slice(0, MAX_NAME_LENGTH)
    const isUnknown = type === ValueErrorType.ObjectAdditionalProperties
    const what = isUnknown
      ? unknownField(path)
      : wanted === undefined
        ? `${message}.`
        : `expected ${wanted}.${hint(path, value)}`
    const detail = `${pointer === '' ? 'The body' : pointer}: ${what}`
    faults.set(path, { pointer, code: CODES[type] ?? 'invalid_value', detail })
    if (faults.size === MAX_FAULTS) break
  }
  return [...faults.values()]
}

export const invalidBody = (errors: Fault[]) => new Problem('invalid_body', errors[0]?.detail ?? '', { errors })

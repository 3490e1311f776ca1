import { type TSchema, Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { type ValueError, ValueErrorType } from '@sinclair/typebox/errors'
import { decodeCursor } from '../lib/cursor.ts'
import { pointerToken } from '../lib/json/unstorable.ts'
import { parseTime } from '../lib/rfc3339.ts'
import type { Row } from '../postgres/row.ts'
import type { Fault } from '../problems.ts'
import { FORMATS, type TextFormat } from '../schemas/formats.ts'
import { EXTENSION_NAME, ExtensionValueSchema, RecordInputSchema } from '../schemas/record.ts'

// Extensions are checked one by one below. In the compiled check, they would cost a second loop over all names.
const envelope = TypeCompiler.Compile(Type.Object(RecordInputSchema.properties))
const extensionValue = TypeCompiler.Compile(ExtensionValueSchema)

const ATTRIBUTES: ReadonlySet<string> = new Set(Object.keys(RecordInputSchema.properties))

/**
 * Fields that the server adds when a record is read. They are ignored in a record that has a cursor of Sluice: it is sent back as
 * it was read. Under any other value, or without the cursor, something that the client means would be lost: it is rejected.
 */
const ADDED_BY_SERVER: ReadonlySet<string> = new Set(['receivedAt', 'cursor'])

/** Whether the record was read from Sluice, as its cursor shows: a cursor has a checksum. */
export const wasRead = ({ cursor }: Record<string, unknown>): boolean =>
  typeof cursor === 'string' && decodeCursor(cursor) !== undefined

/** What the request specifies for all its records. */
export interface Defaults {
  /** Creates an id for a record without one. */
  makeId(index: number): string
  traceparent: string | undefined
}

/**
 * Checks everything in a record except its payload.
 * @param value a parsed JSON value; it is modified: attributes that are null are deleted
 * @returns the row without its data, or the fault
 */
export function readEnvelope(value: unknown, index: number, defaults: Defaults): Row | Fault {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return { index, pointer: '', code: 'wrong_type', detail: 'A record must be a JSON object.' }
  }
  const record = value as Record<string, unknown>
  const names = Object.keys(record)
  let extensions: Record<string, unknown> | null = null

  for (const name of names) {
    // CloudEvents JSON format, section 2.2: an attribute that is null counts as absent. Data may be null.
    if (record[name] === null && name !== 'data' && isKnown(name)) {
      delete record[name]
    } else if (!ATTRIBUTES.has(name) && !(ADDED_BY_SERVER.has(name) && isAsRead(name, record))) {
      const fault = checkExtension(name, record[name], index)
      if (fault !== undefined) return fault
      extensions ??= {}
      extensions[name] = record[name]
    }
  }
  if (!envelope.Check(record)) return explain(envelope.Errors(record).First() as ValueError, index)
  if (record.data !== undefined && record.data_base64 !== undefined) {
    return {
      index,
      pointer: '/data_base64',
      code: 'invalid_value',
      detail: 'A record has data or data_base64, not both.',
    }
  }
  const time = record.time === undefined ? { utc: null } : parseTime(record.time)
  if ('problem' in time) return { index, pointer: '/time', code: 'invalid_time', detail: `time ${time.problem}.` }

  if (defaults.traceparent !== undefined && extensions?.traceparent === undefined) {
    extensions = { ...extensions, traceparent: defaults.traceparent }
  }
  return {
    source: record.source,
    id: record.id ?? defaults.makeId(index),
    type: record.type,
    subject: record.subject ?? null,
    time: time.utc,
    dataschema: record.dataschema ?? null,
    datacontenttype: record.datacontenttype ?? null,
    extensions: extensions === null ? null : JSON.stringify(extensions),
    data: null,
    dataBase64: record.data_base64 ?? null,
  }
}

const isAsRead = (name: string, record: Record<string, unknown>) =>
  wasRead(record) && (name === 'cursor' || (typeof record[name] === 'string' && 'utc' in parseTime(record[name])))

const isKnown = (name: string) => ATTRIBUTES.has(name) || ADDED_BY_SERVER.has(name) || EXTENSION_NAME.test(name)

function checkExtension(name: string, value: unknown, index: number): Fault | undefined {
  const pointer = `/${pointerToken(name)}`
  if (ADDED_BY_SERVER.has(name)) {
    return {
      index,
      pointer,
      code: 'invalid_value',
      detail: `The server sets ${name}. It is accepted only in a record as it was read, with its cursor, and then ignored. Put your own value into data.`,
    }
  }
  if (!EXTENSION_NAME.test(name)) {
    return {
      index,
      pointer,
      code: 'unknown_field',
      detail:
        'No field has this name. The name of an extension attribute consists of lower-case letters and digits; put anything else into data.',
    }
  }
  if (extensionValue.Check(value)) return undefined
  return {
    index,
    pointer,
    code: typeof value === 'string' ? 'invalid_value' : 'wrong_type',
    detail: `${name} must be text without control characters, a boolean or a 32-bit integer; put anything else into data.`,
  }
}

/** Translates an error of TypeBox into a fault with a code of the error catalogue. */
function explain(error: ValueError, index: number): Fault {
  const at = { index, pointer: error.path }
  const name = error.path.slice(1)
  switch (error.type) {
    case ValueErrorType.ObjectRequiredProperty:
      return { ...at, code: 'required', detail: `${name} is required.` }
    case ValueErrorType.StringFormat:
      return { ...at, code: 'invalid_value', detail: `${name} must be ${formatOf(error.schema)}.` }
    case ValueErrorType.Literal:
      return { ...at, code: 'invalid_value', detail: `${name} must be "${error.schema.const}".` }
    default:
      return { ...at, code: 'wrong_type', detail: `${name} must be a string.` }
  }
}

const formatOf = (schema: TSchema) => FORMATS[schema.format as TextFormat].says

import { Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { type ValueError, ValueErrorType } from '@sinclair/typebox/errors'
import { pointerToken } from '../lib/json/unstorable.ts'
import { decodeOffset } from '../lib/offset.ts'
import { quoted } from '../lib/quoted.ts'
import { parseTime } from '../lib/rfc3339.ts'
import { timeHint } from '../lib/time-hint.ts'
import type { Row } from '../postgres/row.ts'
import type { Fault } from '../problems.ts'
import { EXTENSION_NAME, ExtensionValueSchema, RecordInputSchema } from '../schemas/record.ts'
import { describeExtension, describeValue, missingHint, nameHint } from './envelope-hints.ts'

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
  typeof cursor === 'string' && decodeOffset(cursor) !== undefined

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
      const fault = checkExtension(name, record, index)
      if (fault !== undefined) return fault
      extensions ??= {}
      extensions[name] = record[name]
    }
  }
  if (!envelope.Check(record)) return explain(envelope.Errors(record).First() as ValueError, record, index)
  if (record.data !== undefined && record.data_base64 !== undefined) {
    return {
      index,
      pointer: '/data_base64',
      code: 'invalid_value',
      detail: 'A record has data or data_base64, not both. Send JSON in data, or bytes in data_base64.',
    }
  }
  const time = record.time === undefined ? { utc: null } : parseTime(record.time)
  if ('problem' in time) {
    const detail = `time ${time.problem}.${timeHint(record.time ?? '')}`
    return { index, pointer: '/time', code: 'invalid_time', detail }
  }

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

function checkExtension(name: string, record: Record<string, unknown>, index: number): Fault | undefined {
  const value = record[name]
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
      detail: `A record has no field ${quoted(name)}. ${nameHint(name)} The name of an extension attribute consists of lower-case letters and digits.`,
    }
  }
  if (extensionValue.Check(value)) return undefined
  return {
    index,
    pointer,
    code: typeof value === 'string' ? 'invalid_value' : 'wrong_type',
    detail: describeExtension(name, value, record),
  }
}

/** Translates an error of TypeBox into a fault with a code of the error catalogue. */
function explain(error: ValueError, record: Record<string, unknown>, index: number): Fault {
  const at = { index, pointer: error.path }
  const name = error.path.slice(1)
  if (error.type === ValueErrorType.ObjectRequiredProperty)
    return { ...at, code: 'required', detail: `${name} is required.${missingHint(name, record)}` }
  const isValue = error.type === ValueErrorType.StringFormat || error.type === ValueErrorType.Literal
  return { ...at, code: isValue ? 'invalid_value' : 'wrong_type', detail: describeValue(name, error) }
}

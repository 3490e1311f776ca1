import type { TSchema } from '@sinclair/typebox'
import { type ValueError, ValueErrorType } from '@sinclair/typebox/errors'
import { nearest } from '../lib/nearest.ts'
import { characterAt, quoted } from '../lib/quoted.ts'
import { timeHint } from '../lib/time-hint.ts'
import { FORBIDDEN, FORMATS, MAX_BYTES, type TextFormat } from '../schemas/formats.ts'
import { RecordInputSchema } from '../schemas/record.ts'
import { uriFault } from './uri-fault.ts'

type Attribute = keyof typeof RecordInputSchema.properties

const ATTRIBUTES = Object.keys(RecordInputSchema.properties) as Attribute[]

/** What other systems call the attributes. */
const ALIASES: Record<string, Attribute> = {
  origin: 'source',
  producer: 'source',
  service: 'source',
  application: 'source',
  eventsource: 'source',
  event: 'type',
  eventtype: 'type',
  eventname: 'type',
  kind: 'type',
  action: 'type',
  eventid: 'id',
  uuid: 'id',
  guid: 'id',
  messageid: 'id',
  timestamp: 'time',
  ts: 'time',
  datetime: 'time',
  date: 'time',
  eventtime: 'time',
  occurredat: 'time',
  createdat: 'time',
  payload: 'data',
  body: 'data',
  properties: 'data',
  detail: 'data',
  contenttype: 'datacontenttype',
  schema: 'dataschema',
  schemaurl: 'dataschema',
  base64: 'data_base64',
}

/** The attribute that a member of a record probably means. */
function attributeNear(name: string): Attribute | undefined {
  if (near.has(name)) return near.get(name)
  const attribute = nearest(name, ATTRIBUTES, ALIASES)
  if (near.size === MAX_NEAR) near.clear()
  if (name.length <= MAX_NEAR_LENGTH) near.set(name, attribute)
  return attribute
}

/** Thousands of records may be refused for the same names, and comparing names takes longer than all other checks. */
const near = new Map<string, Attribute | undefined>()
const MAX_NEAR = 1000
/** In characters. Longer names are compared only in part. */
const MAX_NEAR_LENGTH = 40

/** What to do about a member whose name no attribute can have, as a sentence. */
export function nameHint(name: string): string {
  const attribute = attributeNear(name)
  if (attribute !== undefined) return `Did you mean ${attribute}?`
  const plain = name.length <= 40 ? name.toLowerCase().replaceAll(/[^a-z0-9]/g, '') : ''
  return plain === '' ? 'Put it into data.' : `Write ${plain}, or put it into data.`
}

/** A name for a message. It may be as long as a record. */
const shownName = (name: string) => (name.length > 60 ? quoted(name) : name)

/** Says why a member cannot be an extension attribute, and what to do. */
export function describeExtension(name: string, value: unknown, record: Record<string, unknown>): string {
  const shown = shownName(name)
  const rule = `${shown} must be text without control characters, a boolean or a 32-bit integer`
  if (typeof value === 'string') return `${rule}. ${forbidden(value) ?? ''}`.trimEnd()
  if (typeof value === 'number')
    return `${rule}, but is another number. Write it in double quotes, or put it into data.`
  if (name === 'extensions') return `${rule}. Put its members into the record itself: {"source":"shop","batch":"7"}.`
  const isWrapper = record.source === undefined && record.type === undefined
  if (isWrapper && value !== null)
    return `${rule}, but is ${kindOf(value)}. If it holds the record or the records, send only what is in it.`
  return `${rule}, but is ${kindOf(value)}. Put it into data: "data":{"${shown}":…}.`
}

/** A record may have a thousand members. Only the first ones are compared with the names of attributes. */
const MAX_NAMES = 10

/** What to do about a required attribute that is missing, after a space; an empty text if it is not clear. */
export function missingHint(name: string, record: Record<string, unknown>): string {
  const others = Object.keys(record)
    .slice(0, MAX_NAMES)
    .filter((one) => !ATTRIBUTES.includes(one as never))
  const similar = others.find((other) => attributeNear(other) === name)
  if (similar !== undefined) return ` The record has ${quoted(similar)} instead: rename it.`
  if (record.source !== undefined || record.type !== undefined) return ` ${MEANINGS[name] ?? ''}`.trimEnd()
  const only = Object.keys(record).length === 1 && record.data !== undefined
  return only
    ? ' The record has only data. If that holds the record or the records, send only what is in it.'
    : ` A record has source, type and data, such as ${EXAMPLE}. Put your own fields into data.`
}

const EXAMPLE = '{"source":"shop","type":"order.placed","data":{"total":12.5}}'

const MEANINGS: Record<string, string> = {
  source: 'It says where the record comes from, such as "shop".',
  type: 'It says what happened, such as "order.placed".',
}

/** Says why the value of an attribute is wrong, and what to write, as a sentence that begins with its name. */
export function describeValue(name: string, { type, value, schema }: ValueError): string {
  if (type === ValueErrorType.Literal)
    return typeof value === 'number'
      ? `${name} must be text, but is a number: write "${schema.const}", in double quotes.`
      : `${name} must be "${schema.const}".`
  if (type === ValueErrorType.StringFormat) return describeText(name, String(value), schema)
  if (typeof value === 'object')
    return `${name} must be text, but is ${kindOf(value)}. Put objects and arrays into data.`
  return `${name} must be text, but is ${kindOf(value)}.${name === 'time' ? timeAsText(value) : quotesHint(value)}`
}

function kindOf(value: unknown): string {
  if (value === null) return 'null'
  // The check of a large record sees an array in place of each nested value: see outlineElement.
  if (typeof value === 'object') return 'an object or an array'
  return `a ${typeof value}`
}

function timeAsText(value: unknown): string {
  return ` Times are RFC 3339 text, such as "2026-01-31T12:00:00Z".${typeof value === 'number' ? timeHint(value) : ''}`
}

/** Digits that a double cannot hold would be wrong in the example. */
const quotesHint = (value: unknown) =>
  typeof value === 'boolean' || Number.isSafeInteger(value)
    ? ` Write "${value}", in double quotes.`
    : typeof value === 'number'
      ? ' Write it in double quotes.'
      : ''

function describeText(name: string, text: string, schema: TSchema): string {
  const format = schema.format as TextFormat
  const rule = `${name} must be ${FORMATS[format].says}`
  if (text === '' && format !== 'sluice-base64')
    return `${rule}, but is empty. ${MEANINGS[name] ?? 'Omit it, or give it a value.'}`
  const max = MAX_BYTES[name as keyof typeof MAX_BYTES]
  const bytes = max === undefined ? 0 : Buffer.byteLength(text)
  if (bytes > max) return `${rule}, but has ${bytes} bytes. Shorten it; data may have the full text.`
  const why = WHY[format]?.(text)
  return why === undefined ? `${rule}.` : `${rule}. ${why}`
}

const forbidden = (text: string) => {
  const index = text.search(FORBIDDEN)
  return index === -1 ? undefined : `${characterAt(text, index)}. Remove it, or put the text into data.`
}

const WHY: Partial<Record<TextFormat, (text: string) => string | undefined>> = {
  'sluice-source': uriFault,
  'sluice-uri': (text) => uriFault(text) ?? 'It must begin with a scheme, such as https://example.com/order.json.',
  'sluice-name': forbidden,
  'sluice-text': forbidden,
  'sluice-extension': forbidden,
  'sluice-media-type': () => 'An example is application/json.',
  'sluice-base64': base64Fault,
}

function base64Fault(text: string): string {
  if (text.startsWith('data:')) return 'It is a data: URL. Send only what is after the comma.'
  const at = text.search(/[^A-Za-z0-9+/=]/)
  const found = text.charAt(at)
  if (found === '-' || found === '_')
    return `${characterAt(text, at)}, as in base64url: write + for -, / for _, and = at the end.`
  if (/\s/.test(found)) return `${characterAt(text, at)}. Remove all white space (base64 -w0).`
  if (at !== -1) return `${characterAt(text, at)}.`
  if (text.length % 4 !== 0) return 'Its length must be a multiple of 4. Add = at the end.'
  return 'Its end is wrong: = may only be at the end, and the unused bits before it must be zero.'
}

import { type Element, outlineElement, parseElement } from '../lib/json/elements.ts'
import { type Extent, MAX_DEPTH, skipSpace } from '../lib/json/extent.ts'
import { pageArrayAt, pageEndAt } from '../lib/json/page.ts'
import { checkJson, faultAfter, faultInside, jsonFault, notJson, throwFault, walkJson } from '../lib/json/parse.ts'
import { pointerToken } from '../lib/json/unstorable.ts'
import { type JsonWalk, MAX_MEMBERS } from '../lib/json/walk.ts'
import { textHint } from '../lib/looks-like.ts'
import { quoted } from '../lib/quoted.ts'
import { isTurnOver, waitForTurn } from '../lib/turns.ts'
import type { Row } from '../postgres/row.ts'
import { type Fault, Problem } from '../problems.ts'
import { type Defaults, readEnvelope, wasRead } from './envelope.ts'

export interface RecordLimits {
  maxRecordBytes: number
  maxBatchRecords: number
}

/** The content of a body: for each record, in order, its row or its fault. */
export interface Batch {
  /** Whether the body is a single object and not an array. */
  single: boolean
  records: (Row | Fault)[]
}

export const isFault = (record: Row | Fault): record is Fault => 'code' in record

/** What the format allows at the top level, and requires of each record. */
export interface JsonFormat {
  top: 'object' | 'array' | 'either'
  /** Required attributes, in addition to those that the schema requires. */
  required: readonly string[]
}

/** application/json. Also a page, as GET /v1/records returns it. */
export const PLAIN: JsonFormat = { top: 'either', required: [] }

/** Members of a record as a client sends it. */
export const MAX_SENT_MEMBERS = 1000

/**
 * A record that was read is larger than it was when it was sent, and must fit when it is sent back. Sluice adds six members
 * (specversion, id, time, traceparent, receivedAt, cursor), and two spaces to each extension attribute.
 */
export const ADDED_BYTES = 4096

/** In characters. Less text than this is read without checking the clock. */
const SHORT = 4096

/**
 * Reads one record or an array of records, in turns (lib/turns.ts).
 * The checks and the attributes use the parsed text. The payloads of the rows are slices of the text itself, because JSON.parse
 * rounds numbers that a double cannot represent.
 * @param owner id of the API key that takes turns
 * @throws Problem invalid_json, too_deep, wrong_type, too_many_records
 */
export async function readJsonRecords(
  text: string,
  format: JsonFormat,
  limits: RecordLimits,
  defaultsFor: (single: boolean) => Defaults,
  owner: string,
): Promise<Batch> {
  if (text.length > SHORT && isTurnOver()) await waitForTurn(owner)
  const start = skipSpace(text, 0)
  const found = text.charAt(start) === '[' ? 'array' : text.charAt(start) === '{' ? 'object' : 'neither'
  if (found === 'neither' || (format.top !== 'either' && format.top !== found)) {
    await checkJson(text, owner, start)
    throw new Problem('wrong_type', `The body must be a JSON ${WANTED[format.top]}. ${otherTop(text, found)}.`)
  }
  const array = found === 'array' ? start + 1 : format.top === 'either' ? pageArrayAt(text, start) : -1
  const single = array === -1
  const defaults = defaultsFor(single)
  const records: (Row | Fault)[] = []
  const take = (element: Element) => {
    const index = records.length
    // A walk keeps only the first MAX_MEMBERS members. A later one is unknown, so it must not count as missing.
    const missing =
      element.extent.members > MAX_MEMBERS ? undefined : findMissingAttribute(element.value, index, format)
    const record = missing ?? checkRecord(text, element, index, limits, defaults)
    records.push(identify(record, element.value))
  }

  if (single) {
    const found = parseElement(text, start) ?? walkElement(text, start, owner)
    const element = found instanceof Promise ? await found : found
    take(element)
    throwFault(faultAfter(element.extent.end, text))
  } else {
    const end = await forEachElement(text, array, limits.maxBatchRecords, owner, take)
    throwFault(faultAfter(found === 'array' ? end : await endOfPage(text, end, owner, start), text))
  }
  return { single, records }
}

const WANTED = { object: 'object', array: 'array of objects', either: 'object (a record) or an array of them' }

/** What the body is instead, and what to do. */
function otherTop(text: string, found: 'array' | 'object' | 'neither'): string {
  if (found === 'array') return 'For an array of events, use Content-Type: application/cloudevents-batch+json'
  if (found === 'object') return 'For a single event, use Content-Type: application/cloudevents+json'
  return textHint(text) ?? `It is ${kindAt(text, skipSpace(text, 0))}. Put it into data: ${WITH_DATA}`
}

const WITH_DATA = '{"source":"shop","type":"order.placed","data":…}'

/** What to do about an array in place of a record. */
const BRACKETS = 'If it has records, remove the brackets around them; otherwise put it into data'

const kindAt = (text: string, start: number) =>
  ({ '"': 'a string', '[': 'an array', n: 'null', t: 'true', f: 'false' })[text.charAt(start)] ?? 'a number'

/** Index after the page that begins at `start`. @throws Problem invalid_json, wrong_type */
async function endOfPage(text: string, arrayEnd: number, owner: string, start: number): Promise<number> {
  const end = pageEndAt(text, arrayEnd)
  if (end !== -1) return end
  await checkJson(text, owner, start)
  throw new Problem(
    'wrong_type',
    'A page of records has only the members records, next and count. Send only the array in records.',
  )
}

/**
 * Calls `take` with each element of an array.
 * @param start index after its opening bracket
 * @returns index after its closing bracket
 * @throws Problem invalid_json, too_deep, too_many_records
 */
async function forEachElement(
  text: string,
  start: number,
  max: number,
  owner: string,
  take: (element: Element) => void,
): Promise<number> {
  let at = skipSpace(text, start)
  let lastCheck = 0
  for (let index = 0; text.charAt(at) !== ']' || index > 0; index++) {
    if (index === max) {
      const detail = `The batch has more than ${max} records. ${MORE_RECORDS}`
      throw new Problem('too_many_records', detail)
    }
    if (at - lastCheck > SHORT) {
      lastCheck = at
      if (isTurnOver()) await waitForTurn(owner)
    }
    const found = parseElement(text, at) ?? walkElement(text, at, owner)
    const element = found instanceof Promise ? await found : found
    take(element)
    at = skipSpace(text, element.extent.end)
    if (text.charAt(at) === ']') break
    if (text.charAt(at) !== ',') throwFault(notJson(text, at))
    at = skipSpace(text, at + 1)
  }
  return at + 1
}

const MORE_RECORDS =
  'Split it, or send one record per line with Content-Type: application/x-ndjson, which has no limit. The limit of a batch is the setting MAX_BATCH_RECORDS.'

/** For a value that parseElement does not take. @throws Problem invalid_json, too_deep */
function walkElement(text: string, start: number, owner: string): Element | Promise<Element> {
  const walk = walkJson(text, start, owner)
  return walk instanceof Promise ? walk.then(toElement) : toElement(walk)

  function toElement(walk: JsonWalk): Element {
    throwFault(faultInside(walk, text))
    return outlineElement(text, start, walk)
  }
}

/**
 * Reads a record from a text of its own: a line. Returns a promise only if the text is large.
 * @param index index of the line in its stream
 * @param owner id of the API key that takes turns
 */
export function readRecordText(
  text: string,
  index: number,
  limits: RecordLimits,
  defaults: Defaults,
  owner: string,
): Row | Fault | Promise<Row | Fault> {
  const start = skipSpace(text, 0)
  const element = parseElement(text, start)
  if (element === undefined) {
    const walk = walkJson(text, start, owner)
    return walk instanceof Promise ? walk.then(read) : read(walk)
  }
  const fault = faultAfter(element.extent.end, text, index + 1)
  return fault === undefined ? check(element) : { index, pointer: '', ...fault }

  function read(walk: JsonWalk): Row | Fault {
    const fault = jsonFault(walk, text, index + 1)
    return fault === undefined ? check(outlineElement(text, start, walk)) : { index, pointer: '', ...fault }
  }

  function check(element: Element): Row | Fault {
    return identify(checkRecord(text, element, index, limits, defaults), element.value)
  }
}

/** Adds source, id and type to the fault of a record, as far as they can be read. */
function identify(record: Row | Fault, value: unknown): Row | Fault {
  if (!isFault(record) || typeof value !== 'object' || value === null) return record
  const { source, id, type } = value as Record<string, unknown>
  return {
    ...record,
    ...(isName(source) ? { source } : {}),
    ...(isName(id) ? { id } : {}),
    ...(isName(type) ? { type } : {}),
  }
}

const isName = (name: unknown): name is string => typeof name === 'string' && name.length <= 512 && name.isWellFormed()

function findMissingAttribute(value: unknown, index: number, { required }: JsonFormat): Fault | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
  const name = required.find((one) => (value as Record<string, unknown>)[one] == null)
  if (name === undefined) return undefined
  const isOptional = name === 'id' || name === 'specversion'
  const instead = isOptional ? ' With Content-Type: application/json, it may be missing.' : ''
  return { index, pointer: `/${name}`, code: 'required', detail: `${name} is required in a CloudEvent.${instead}` }
}

function checkRecord(
  text: string,
  { value, extent, unusual }: Element,
  index: number,
  limits: RecordLimits,
  defaults: Defaults,
): Row | Fault {
  if (
    isLonger(text, extent, limits.maxRecordBytes) &&
    (!isReadBack(value) || isLonger(text, extent, limits.maxRecordBytes + ADDED_BYTES))
  ) {
    return {
      index,
      pointer: '',
      code: 'record_too_large',
      detail: tooLarge(Buffer.byteLength(text.slice(extent.start, extent.end)), limits),
    }
  }
  if (unusual?.tooDeep) {
    return {
      index,
      pointer: '/data',
      code: 'too_deep',
      detail: `The data is nested more than ${MAX_DEPTH} levels deep. Send deeper data as text: as a string in data, or in data_base64.`,
    }
  }
  if (extent.members > MAX_SENT_MEMBERS && (!isReadBack(value) || extent.members > MAX_MEMBERS)) {
    const detail = `The record has more than ${MAX_SENT_MEMBERS} members. Put them into data, which may have any number of members.`
    return { index, pointer: '', code: 'too_complex', detail }
  }
  if (unusual?.repeated !== undefined) {
    return {
      index,
      pointer: `/${pointerToken(unusual.repeated)}`,
      code: 'repeated_field',
      detail: `The field ${quoted(unusual.repeated)} occurs twice in the record. Send it once.`,
    }
  }
  if (text.charAt(extent.start) !== '{') {
    const kind = kindAt(text, extent.start)
    const asData = `${kind === 'an array' ? BRACKETS : 'Put it into data'}: ${WITH_DATA}`
    const advice = textHint(text.slice(extent.start, extent.end)) ?? asData
    const detail = `A record must be a JSON object, but this is ${kind}. ${advice}.`
    return { index, pointer: '', code: 'wrong_type', detail }
  }
  const row = readEnvelope(value, index, defaults)
  if (isFault(row)) return row
  // CloudEvents JSON format, section 2.2. Only the text shows it: JSON.parse reads 1.00000000000000000001 as 1.
  if (unusual?.fractional !== undefined) {
    return {
      index,
      pointer: `/${pointerToken(unusual.fractional)}`,
      code: 'wrong_type',
      detail: `${quoted(unusual.fractional)} is a number with a fraction or an exponent, but an attribute may only be an integer. Write it in double quotes, or put it into data.`,
    }
  }
  if (extent.dataEnd === 0) return row

  row.data = text.slice(extent.dataStart, extent.dataEnd)
  return unusual?.unstorable === undefined ? row : { index, ...unusual.unstorable }
}

/** @param bytes the size of the record */
export const tooLarge = (bytes: number, { maxRecordBytes }: RecordLimits): string =>
  `The record has ${bytes} bytes, but at most ${maxRecordBytes} are allowed (MAX_RECORD_BYTES). Split it, or keep large content elsewhere and its URL in data.`

const isReadBack = (value: unknown) => typeof value === 'object' && value !== null && wasRead({ ...value })

/** `max` is in bytes of UTF-8. A UTF-16 unit takes one to three bytes: they are counted only if that does not decide. */
function isLonger(text: string, { start, end }: Extent, max: number): boolean {
  if ((end - start) * 3 <= max) return false
  return end - start > max || Buffer.byteLength(text.slice(start, end)) > max
}

import { isUtf8 } from 'node:buffer'
import type { IncomingHttpHeaders } from 'node:http'
import { checkJson } from '../lib/json/parse.ts'
import { type Fault, Problem } from '../problems.ts'
import { isUriReference as isUri } from '../schemas/formats.ts'
import { EXTENSION_NAME } from '../schemas/record.ts'
import { decodeText } from './body.ts'
import type { Defaults } from './envelope.ts'
import { type Batch, isFault, type JsonFormat, type RecordLimits, readRecordText } from './json-records.ts'

/** Required by CloudEvents 1.0.2, section 3.1. In these formats, Sluice does not fill in a missing id or version. */
const REQUIRED = ['specversion', 'id', 'source', 'type'] as const

/** application/cloudevents+json (HTTP binding 1.0.2, section 3.2) */
export const STRUCTURED: JsonFormat = { top: 'object', required: REQUIRED }

/** application/cloudevents-batch+json (section 3.3) */
export const BATCHED: JsonFormat = { top: 'array', required: REQUIRED }

const REQUIRED_HEADERS = REQUIRED.map((name) => `ce-${name}`)

/** Whether this is binary mode, with the attributes of an event in the headers (section 3.1). */
export const isBinary = (headers: IncomingHttpHeaders): boolean =>
  REQUIRED_HEADERS.some((name) => headers[name] !== undefined)

/**
 * Reads an event in binary mode (section 3.1): its attributes from the headers, its data from the body.
 * @param rawHeaders alternating names and values, as in IncomingMessage; its `headers` merges repeated ones
 * @param owner id of the API key that takes turns (lib/turns.ts)
 * @throws Problem invalid_header, invalid_json, invalid_utf8
 */
export async function readBinaryEvent(
  rawHeaders: readonly string[],
  content: Buffer,
  limits: RecordLimits,
  defaults: Defaults,
  owner: string,
): Promise<Batch> {
  const attributes = readAttributes(rawHeaders)
  const missing = REQUIRED.find((name) => attributes[name] === undefined)
  if (missing !== undefined) {
    const fault: Fault = {
      index: 0,
      pointer: `ce-${missing}`,
      code: 'required',
      detail: `The header ce-${missing} is required, because the request has other headers of a CloudEvent in binary mode.`,
    }
    return { single: true, records: [fault] }
  }
  // Convert it to structured mode, so that all formats share the same checks.
  const envelope = JSON.stringify(attributes).slice(0, -1)
  const data = await readData(attributes.datacontenttype, content, owner)
  const record = await readRecordText(`${envelope}${data}}`, 0, limits, defaults, owner)
  return { single: true, records: [isFault(record) ? { ...record, pointer: headerOf(record.pointer ?? '') } : record] }
}

/** The pointer for the sender: the name of a header, unless the fault is in the data. */
function headerOf(pointer: string): string {
  if (pointer === '/datacontenttype') return 'content-type'
  return pointer.replace(/^\/(?!data(?:_base64)?(?:\/|$))/, 'ce-')
}

function readAttributes(rawHeaders: readonly string[]): Record<string, string> {
  // Without a prototype, because `constructor` is a valid attribute name.
  const attributes: Record<string, string> = Object.create(null)
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const [rawName = '', value = ''] = rawHeaders.slice(at, at + 2)
    const header = rawName.toLowerCase()
    if (header === 'content-type') attributes.datacontenttype ??= value
    if (!header.startsWith('ce-')) continue
    const name = header.slice(3)
    // Section 3.1.1: datacontenttype is the Content-Type header and has no ce- header.
    if (name === 'datacontenttype') throw invalid(header, 'is not allowed: use Content-Type')
    if (!EXTENSION_NAME.test(name) || name === 'data')
      throw invalid(header, 'does not name a valid attribute: after ce-, there may be only letters and digits')
    if (attributes[name] !== undefined) throw invalid(header, 'occurs twice')
    attributes[name] = decodeValue(header, value)
    // Section 3.1.3.2 requires senders to encode `%`, which the SDK for JavaScript does not. Decoding `/a%20b` then
    // goes too far: the result is not a URI.
    const wasEncoded = attributes[name] !== value
    if (wasEncoded && URI_ATTRIBUTES.has(name) && !isUri(attributes[name]) && isUri(value)) attributes[name] = value
  }
  return attributes
}

const URI_ATTRIBUTES = new Set(['source', 'dataschema'])

/**
 * Section 3.1.3.2: remove the quotes, if there are any, and decode percent-encoding once. The result must be UTF-8. Text without
 * percent-encoding may also be Latin-1, as Node.js and browsers send it (RFC 9110, section 5.5).
 */
function decodeValue(header: string, value: string): string {
  const unquoted = /^"(.*)"$/s.exec(value)?.[1]?.replaceAll(/\\(.)/gs, '$1') ?? value
  const decoded = unquoted.replaceAll(/%([\da-f]{2})/gi, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  )
  const bytes = Buffer.from(decoded, 'latin1')
  if (isUtf8(bytes)) return bytes.toString('utf8')
  if (decoded === unquoted) return unquoted
  throw invalid(header, 'is not UTF-8 after percent-decoding')
}

/** The JSON member that represents this data without loss; an empty string for an empty body. */
async function readData(contentType: string | undefined, content: Buffer, owner: string): Promise<string> {
  if (content.length === 0) return ''
  const [essence = '', ...parameters] = (contentType ?? '').toLowerCase().split(';')
  if (/^[^/]+\/(?:.+\+)?json\s*$/.test(essence)) {
    const text = decodeText(content)
    // The text must be valid on its own: otherwise it could end the object that is built here and begin another one.
    await checkJson(text, owner)
    return `,"data":${text}`
  }
  const charset = parameters.find((parameter) => parameter.trim().startsWith('charset='))
  const isText = essence.startsWith('text/') && (charset === undefined || /utf-?8/.test(charset))
  // A JSON string has the same bytes and is readable. PostgreSQL cannot store U+0000 in it.
  if (isText && isUtf8(content) && !content.includes(0)) return `,"data":${JSON.stringify(content.toString('utf8'))}`
  return `,"data_base64":"${content.toString('base64')}"`
}

function invalid(header: string, why: string): Problem {
  const detail = `The header ${header} ${why}.`
  return new Problem('invalid_header', detail, { errors: [{ pointer: header, code: 'invalid_header', detail }] })
}

import { createHash } from 'node:crypto'
import { isContested, planOf } from './plans.ts'

// The content of a record follows from its number, so the checker can compute it again and see whether it was altered.

/** Record `index` of request `r` has the number r * SPAN + index. */
export const SPAN = 10_000

export const requestOf = (number: number): number => Math.floor(number / SPAN)

/** Everything that a client sends for a record, except its source and id. */
export interface Content {
  type: string
  subject?: string
  /** The same instant as it is sent and in UTC. */
  time?: { sent: string; utc: string }
  dataschema?: string
  datacontenttype?: string
  extensions: Record<string, string | number | boolean>
  /** JSON text. */
  data?: string
  data_base64?: string
}

/** The header of traced requests. The server stores it in their records. */
export const traceparentOf = (request: number): string =>
  `00-${hashOf(`trace ${request}`).toString('hex', 0, 16)}-${hashOf(`span ${request}`).toString('hex', 0, 8)}-01`

/** The id that the client sends, or that the server derives from the Idempotency-Key, which is the number of the request. */
export function idOf(number: number): string {
  const request = requestOf(number)
  const { keyed, format } = planOf(request)
  return keyed && format === 'object' ? String(request) : `${request}.${number % SPAN}`
}

/** @returns undefined if the id does not have the form of an id of this run */
export function numberOf(id: string): number | undefined {
  const [, request, index] = /^(\d{1,9})(?:\.(\d{1,4}))?$/.exec(id) ?? []
  return request === undefined ? undefined : Number(request) * SPAN + Number(index ?? 0)
}

/**
 * @param variant which of its contents a contested identity has. Variant 1 differs from 0 in a digit that a double cannot hold,
 * variant 2 in its subject.
 */
export function contentOf(number: number, variant: number): Content {
  const request = requestOf(number)
  const { format, traced, large } = planOf(request)
  const chance = hashOf(`record ${number}`)
  const oneOf = (at: number, count: number) => (chance[at] as number) % count
  const labels = { label: `é "x" 100% 😀 ${number}`, flag: oneOf(0, 2) === 0, count: chance.readInt32BE(4) }
  const content: Content = {
    type: `durability.${oneOf(1, 3)}`,
    ...(variant === 2 || oneOf(2, 2) === 0
      ? { subject: `subject ${number}${variant === 2 ? ' of another' : ''} ü` }
      : {}),
    ...(oneOf(3, 3) > 0 ? { time: timeOf(number, oneOf(8, 5)) } : {}),
    ...(oneOf(9, 3) === 0 ? { dataschema: `https://example.com/schemas/${oneOf(10, 9)}#v1` } : {}),
    extensions: oneOf(11, 4) === 0 ? {} : labels,
  }
  if (traced) content.extensions.traceparent = traceparentOf(request)
  if (isBinary(format)) {
    // In headers, all values are text (CloudEvents HTTP binding 1.0.2, section 3.1.3).
    content.extensions = Object.fromEntries(
      Object.entries(content.extensions).map(([name, value]) => [name, `${value}`]),
    )
    return { ...content, ...payloadOfBinary(format, number) }
  }
  // Contested and large records need an object: it contains the variant, and the padding.
  const kind = isContested(request) || large ? 0 : oneOf(12, 10)
  return { ...content, ...payloadOf(number, variant, kind, oneOf(13, 3)) }
}

/** The body of a request in the binary mode of CloudEvents. */
export function bytesOf(format: string, number: number): Buffer {
  if (format === 'binary-json') return Buffer.from(objectOf(number, 0))
  if (format === 'binary-text') return Buffer.from(textOf(number))
  return hashOf(`bytes ${number}`)
}

export const CONTENT_TYPES: Record<string, string> = {
  'binary-json': 'application/json',
  'binary-text': 'text/plain; charset=utf-8',
  'binary-bytes': 'application/octet-stream',
}

export const isBinary = (format: string): boolean => format in CONTENT_TYPES

function payloadOfBinary(format: string, number: number): Partial<Content> {
  const bytes = bytesOf(format, number)
  const datacontenttype = CONTENT_TYPES[format] as string
  if (format === 'binary-json') return { datacontenttype, data: bytes.toString() }
  if (format === 'binary-text') return { datacontenttype, data: JSON.stringify(bytes.toString()) }
  return { datacontenttype, data_base64: bytes.toString('base64') }
}

function payloadOf(number: number, variant: number, kind: number, typed: number): Partial<Content> {
  const type = typed === 0 ? { datacontenttype: 'application/json; charset=utf-8' } : {}
  switch (kind) {
    case 1:
      return { data: `-123456789012345678901234567890.${number}0` }
    case 2:
      return { datacontenttype: 'text/plain', data: `"escaped \\u00e9 \\/ \\\\u0000 \\ud83d\\ude00 \\t${number}"` }
    case 3:
      return { data: 'null' }
    case 4:
      return { ...type, data: `[ ${objectOf(number, variant)}, [], 1E+2 ]` }
    case 5:
      return {}
    case 6:
      return { datacontenttype: 'image/png', data_base64: hashOf(`image ${number}`).toString('base64') }
    default:
      return { ...type, data: objectOf(number, variant) }
  }
}

/** Contains digits that a double cannot hold, escapes, white space and a repeated name, all of which must stay as they are. */
const objectOf = (number: number, variant: number) =>
  `{"n":${number},${planOf(requestOf(number)).large ? ` "padding":"${PADDING}",` : ''} "hash":"${hashOf(String(number)).toString('base64')}","long":1234567890123456789${variant},` +
  `"fraction":0.1000000000000000055${number},"exponent":1.50e+300,"zero":-0,"text":${JSON.stringify(textOf(number))},` +
  `"nested":{"list":[1.0,[2,[{"":null}]],true\t],"again":1,"again":2}}`

const PADDING = 'padding '.repeat(1_000)

const textOf = (number: number) => `"${number}"\n\t\\ \\u0000 / é 😀 \u0001`

/** The last digit is never 0, because the API omits trailing zeros. */
function timeOf(number: number, zone: number): { sent: string; utc: string } {
  const fraction = `${String((number * 7919) % 100_000).padStart(5, '0')}${1 + (number % 9)}`
  const utc = new Date(Date.UTC(1999, 11, 31, 23, 59, 58) + number * 1000)
  const hours = zone - 2
  const local = new Date(utc.getTime() + hours * 3_600_000)
  const text = (date: Date) => `${date.toISOString().slice(0, 19)}.${fraction}`
  const offset = hours === 0 ? 'Z' : `${hours < 0 ? '-' : '+'}0${Math.abs(hours)}:00`
  return { sent: `${text(local)}${offset}`, utc: `${text(utc)}Z` }
}

const hashOf = (text: string) => createHash('sha256').update(text).digest()

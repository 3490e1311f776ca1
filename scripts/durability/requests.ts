import { brotliCompressSync, constants, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib'
import { isBad, isContested, type Plan, planOf, type Rival, rivalsOf } from './plans.ts'
import { bytesOf, CONTENT_TYPES, type Content, contentOf, idOf, isBinary, SPAN, traceparentOf } from './records.ts'

/** A request that can be sent several times. */
export interface Message {
  request: number
  plan: Plan
  /** Which content it sends. Always 0 if it has no rivals. */
  variant: number
  /** The numbers of its records, in the order of the body. */
  numbers: number[]
  headers: Record<string, string>
  body: Buffer
}

/** Builds the request with this number, or one request per rival if it is contested. */
export function makeMessages(request: number, source: string): Message[] {
  const rivals = isContested(request) ? rivalsOf(request) : [{ ...planOf(request), variant: 0 }]
  return rivals.map((rival) => makeMessage(request, rival, source))
}

function makeMessage(request: number, plan: Rival, source: string): Message {
  const { format, count, variant, reversed, from = 0 } = plan
  const numbers = Array.from({ length: count }, (_, index) => request * SPAN + from + index)
  if (reversed) numbers.reverse()
  const plain = isBinary(format) ? bytesOf(format, numbers[0] as number) : Buffer.from(bodyOf(plan, numbers, source))
  const body = plan.encoding === undefined ? plain : COMPRESS[plan.encoding](plain)
  const preferences = [...(plan.strict ? ['handling=strict'] : []), ...(plan.minimal ? ['return=minimal'] : [])]
  const headers: Record<string, string> = {
    'content-type': CONTENT_TYPES[format] ?? MEDIA_TYPES[format] ?? 'application/json',
    ...(isBinary(format) ? attributesOf(numbers[0] as number, source) : {}),
    // Line streams have no Content-Length, because a sender does not know it in advance.
    ...(format === 'lines' ? {} : { 'content-length': String(body.length) }),
    ...(plan.encoding === undefined ? {} : { 'content-encoding': plan.encoding }),
    ...(plan.keyed ? { 'idempotency-key': `"${request}"` } : {}),
    ...(plan.traced ? { traceparent: traceparentOf(request) } : {}),
    ...(preferences.length > 0 ? { prefer: preferences.join(', ') } : {}),
  }
  return { request, plan, variant, numbers, headers, body }
}

// The default quality of brotli, 11, takes far longer than everything else that a client does.
const brotli = (body: Buffer) => brotliCompressSync(body, { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } })

const COMPRESS = { gzip: gzipSync, deflate: deflateSync, zstd: zstdCompressSync, br: brotli }

const MEDIA_TYPES: Partial<Record<string, string>> = {
  lines: 'application/x-ndjson',
  structured: 'application/cloudevents+json',
  batch: 'application/cloudevents-batch+json',
}

function bodyOf({ format, keyed, variant }: Rival, numbers: readonly number[], source: string): string {
  const records = numbers.map((number, index) => {
    const { extensions, ...content } = contentOf(number, variant)
    // The server takes it from the header.
    const { traceparent: _, ...others } = extensions
    const bad = isBad(Math.floor(number / SPAN), index) ? FAULTS[index % FAULTS.length] : {}
    return toJson(
      { ...content, extensions: others, ...bad },
      {
        ...(format === 'structured' || format === 'batch' ? { specversion: '1.0' } : {}),
        source,
        ...(keyed ? {} : { id: idOf(number) }),
      },
    )
  })
  if (format === 'lines') return records.map((record) => `${record}\n`).join('')
  return format === 'array' || format === 'batch' ? `[${records.join()}]` : (records[0] as string)
}

/** Contents that must be rejected, because of the envelope or the data. */
const FAULTS: readonly Partial<Content>[] = [
  { time: { sent: '2026-02-30T12:00:00Z', utc: '' } },
  { extensions: { 'no-name': 'of an attribute' } },
  { data: '"\\ud800"' },
  { data: '1e200000' },
]

function toJson({ time, extensions, data, ...content }: Content, identity: Record<string, string>): string {
  const members = JSON.stringify({
    ...identity,
    ...content,
    ...(time === undefined ? {} : { time: time.sent }),
    ...extensions,
  })
  // Appended as text, because JSON.stringify would round its numbers.
  return data === undefined ? members : `${members.slice(0, -1)},"data":${data}}`
}

/** CloudEvents HTTP binding 1.0.2, section 3.1.3: percent-encoded. */
function attributesOf(number: number, source: string): Record<string, string> {
  const { type, subject, time, dataschema, extensions } = contentOf(number, 0)
  const attributes = { specversion: '1.0', source, id: idOf(number), type, subject, time: time?.sent, dataschema }
  return Object.fromEntries(
    Object.entries({ ...attributes, ...extensions }).flatMap(([name, value]) =>
      value === undefined ? [] : [[`ce-${name}`, encodeURIComponent(value)]],
    ),
  )
}

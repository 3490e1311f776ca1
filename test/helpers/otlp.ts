import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'
import { until } from './until.ts'

export interface SentSpan {
  name: string
  traceId: string
  spanId: string
  /** Empty if the span is the root of its trace. */
  parentId: string
  kind: 'INTERNAL' | 'SERVER' | 'CLIENT' | undefined
  attributes: Record<string, unknown>
  links: { traceId: string; spanId: string }[]
  failed: boolean
  /** Nanoseconds since 1970. */
  start: bigint
  end: bigint
  resource: Record<string, unknown>
}

/** An OpenTelemetry collector that receives OTLP over HTTP, in protobuf. */
export async function startCollector(t: Test) {
  const spans: SentSpan[] = []
  const bodies: Buffer[] = []
  const headers: Record<string, unknown>[] = []
  const server = createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray())
    bodies.push(body)
    headers.push({ url: request.url, ...request.headers })
    spans.push(...readSpans(body))
    response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end()
  }).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    bodies,
    headers,
    /** Waits for the first span that `matches`. */
    span: (what: string, matches: (span: SentSpan) => boolean) => until(`the span ${what}`, () => spans.find(matches)),
  }
}

const KINDS = { 1: 'INTERNAL', 2: 'SERVER', 3: 'CLIENT' } as Record<number, SentSpan['kind']>

// The numbers are field numbers of opentelemetry/proto/trace/v1/trace.proto.
function readSpans(body: Buffer): SentSpan[] {
  return messages(body, 1).flatMap((resourceSpans) => {
    const resource = messages(resourceSpans, 1).flatMap((message) => messages(message, 1))
    return messages(resourceSpans, 2)
      .flatMap((scopeSpans) => messages(scopeSpans, 2))
      .map((span) => ({
        name: bytes(span, 5).toString(),
        traceId: bytes(span, 1).toString('hex'),
        spanId: bytes(span, 2).toString('hex'),
        parentId: bytes(span, 4).toString('hex'),
        kind: KINDS[Number(number(span, 6))],
        attributes: readAttributes(messages(span, 9)),
        links: messages(span, 13).map((link) => ({
          traceId: bytes(link, 1).toString('hex'),
          spanId: bytes(link, 2).toString('hex'),
        })),
        failed: number(bytes(span, 15), 3) === 2n,
        start: number(span, 7),
        end: number(span, 8),
        resource: readAttributes(resource),
      }))
  })
}

function readAttributes(pairs: Buffer[]): Record<string, unknown> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const [field] = readFields(bytes(pair, 2))
      const value = Buffer.isBuffer(field?.value) ? field.value.toString() : Number(field?.value)
      return [bytes(pair, 1).toString(), value]
    }),
  )
}

const messages = (message: Buffer, number: number): Buffer[] =>
  readFields(message).flatMap((field) => (field.number === number ? [field.value as Buffer] : []))
const bytes = (message: Buffer, number: number): Buffer => messages(message, number)[0] ?? Buffer.alloc(0)
const number = (message: Buffer, number: number): bigint =>
  BigInt((readFields(message).find((field) => field.number === number)?.value as bigint | undefined) ?? 0n)

/** The fields of a message: integers and fixed numbers, or bytes (protobuf's wire format). */
function readFields(message: Buffer): { number: number; value: bigint | Buffer }[] {
  const fields: { number: number; value: bigint | Buffer }[] = []
  let at = 0
  const varint = (): bigint => {
    let value = 0n
    for (let shift = 0n; ; shift += 7n) {
      const byte = message[at++] as number
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
  }
  const take = (length: number): Buffer => {
    at += length
    return message.subarray(at - length, at)
  }
  while (at < message.length) {
    const tag = Number(varint())
    const [number, type] = [tag >> 3, tag & 7]
    if (type === 0) fields.push({ number, value: varint() })
    else if (type === 1) fields.push({ number, value: take(8).readBigUInt64LE() })
    else if (type === 5) fields.push({ number, value: BigInt(take(4).readUInt32LE()) })
    else fields.push({ number, value: take(Number(varint())) })
  }
  return fields
}

import { brotliCompressSync, constants, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib'
import type { Shape } from './bad-records.ts'
import type { Random } from './random.ts'

export type BodyFormat = 'object' | 'array' | 'lines' | 'structured' | 'batch' | 'binary'

/** The properties of a request, before its records are chosen. */
export interface Plan {
  format: BodyFormat
  shape: Shape
  /** It is in a mode of CloudEvents, in which records need an id and specversion. */
  isEvent: boolean
  strict: boolean
  minimal: boolean
  encoding: string | undefined
  /** The server derives the ids of records without an id from it. */
  idempotencyKey: string | undefined
  traceparent: string | undefined
  records: number
  /** The probability that a record is bad. */
  badShare: number
  /** The body is sent in this many pieces, with pauses of this many milliseconds. */
  pieces: number
  pauseMs: number
}

export const MEDIA_TYPES: Record<BodyFormat, string> = {
  object: 'application/json',
  array: 'application/json; charset=utf-8',
  lines: 'application/x-ndjson',
  structured: 'application/cloudevents+json',
  batch: 'application/cloudevents-batch+json; charset=utf-8',
  // In binary mode, Content-Type is that of the data.
  binary: '',
}

export const ENCODINGS: Record<string, (bytes: Buffer) => Buffer> = {
  gzip: (bytes) => gzipSync(bytes),
  br: (bytes) => brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } }),
  zstd: (bytes) => zstdCompressSync(bytes),
  deflate: (bytes) => deflateSync(bytes),
}

const FORMATS: BodyFormat[] = ['object', 'object', 'array', 'array', 'lines', 'lines', 'structured', 'batch', 'binary']
const ALONE: BodyFormat[] = ['object', 'structured', 'binary']
const EVENTS: BodyFormat[] = ['structured', 'batch', 'binary']
const TRACE = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
/** Number of idempotency keys that requests compete for. */
const KEYS = 12

/** Plans a request with a few records, most of which other clients send as well. */
export function planRace(random: Random): Plan {
  const format = random.pick(FORMATS)
  const shape = ALONE.includes(format) ? 'alone' : format === 'lines' ? 'line' : 'array'
  const isEvent = EVENTS.includes(format)
  const strict = shape !== 'line' && random.chance(0.2)
  return {
    ...{ format, shape, isEvent, strict },
    minimal: random.chance(0.2),
    encoding: random.chance(0.3) ? random.pick(Object.keys(ENCODINGS)) : undefined,
    idempotencyKey: !isEvent && random.chance(0.3) ? `key-${random.int(1, KEYS)}` : undefined,
    traceparent: random.chance(0.1) ? TRACE : undefined,
    records: shape === 'alone' ? 1 : random.int(1, 25),
    badShare: random.chance(0.5) ? 0 : strict ? 0.05 : 0.15,
    pieces: shape === 'line' ? random.int(1, 6) : random.int(1, 2),
    pauseMs: random.int(0, 40),
  }
}

/** Plans a request with many records that are all new, so that Sluice uses COPY. */
export function planFresh(random: Random): Plan {
  const lines = random.chance(0.7)
  return {
    format: lines ? 'lines' : 'array',
    shape: lines ? 'line' : 'array',
    isEvent: false,
    strict: false,
    minimal: random.chance(0.5),
    encoding: random.chance(0.3) ? 'gzip' : undefined,
    idempotencyKey: undefined,
    traceparent: undefined,
    records: lines ? random.int(500, 4500) : random.int(100, 900),
    badShare: 0,
    pieces: random.int(1, 3),
    pauseMs: random.int(0, 10),
  }
}

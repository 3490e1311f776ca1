/**
 * Bodies that keep the limits on bytes and are as expensive as possible in some other way. For tests and measurements of how much
 * one request can delay the others.
 */
import { gzipSync } from 'node:zlib'

const MiB = 1024 * 1024
/** A little less than the defaults of MAX_BATCH_BYTES and MAX_RECORD_BYTES. */
const BATCH = 16 * MiB - 1024
const RECORD = MiB - 1024
const MAX_RECORDS = 10_000

export interface WorstBody {
  name: string
  headers: Record<string, string>
  make(): Buffer
}

/** Joins texts with commas, up to this number of bytes. */
function fill(bytes: number, text: (n: number) => string): string {
  const parts: string[] = []
  for (let n = 0, size = 0; ; n++) {
    const part = text(n)
    size += part.length + 1
    if (size > bytes) return parts.join()
    parts.push(part)
  }
}

/** An object whose members have short and different names. */
export const manyKeys = (bytes: number) => `{${fill(bytes - 2, (n) => `"${n.toString(36)}":1`)}}`
/** Objects of different shapes. V8 creates a hidden class for each. */
const manyShapes = (bytes: number) => `[${fill(bytes - 2, (n) => `{"${n.toString(36)}":1}`)}]`
const repeated = (bytes: number, element: string) => `[${fill(bytes - 2, () => element)}]`
const record = (data: string, n: number | string = 0) => `{"source":"worst","type":"t","id":"${n}","data":${data}}`
/** Four of the largest records. A batch may have four times as many, but PostgreSQL would take long to store them. */
const batchOf = (name: string, data: (bytes: number) => string) =>
  `[${fill(BATCH / 4, (n) => record(data(RECORD - 100), `${name}-${n}`))}]`
const records = (one: (n: number) => string) => `[${Array.from({ length: MAX_RECORDS }, (_, n) => one(n))}]`
/** Several blocks of lines. A body may have any number of lines, and each costs the same. */
const lines = (line: string) => `${line}\n`.repeat(RECORD / 4 / (line.length + 1))

/** An empty frame of zstd (RFC 8878, section 3.1.1): a header, an empty last block, no checksum. */
const EMPTY_FRAME = Buffer.from('28b52ffd2000010000', 'hex')
export const emptyFrames = (bytes: number) => Buffer.alloc(bytes - (bytes % EMPTY_FRAME.length), EMPTY_FRAME)
/** Empty skippable frames (section 3.1.2). */
export const skippableFrames = (bytes: number) =>
  Buffer.alloc(bytes - (bytes % 8), Buffer.from('502a4d1800000000', 'hex'))

const JSON_TYPE = { 'content-type': 'application/json' }
const LINES_TYPE = { 'content-type': 'application/x-ndjson' }
const EVENT = { 'ce-specversion': '1.0', 'ce-id': '1', 'ce-source': 'worst', 'ce-type': 't' }
const event = (text: string) => text.replace('{', '{"specversion":"1.0",')

const json = (name: string, make: () => string | Buffer, headers: Record<string, string> = {}): WorstBody => ({
  name,
  headers: { ...JSON_TYPE, ...headers },
  make: () => Buffer.from(make()),
})

/** One record, a few large ones, or no valid record. */
export const WORST_RECORDS: WorstBody[] = [
  json('16 MiB of short keys in one record', () => `[${record(manyKeys(BATCH - 100))}]`),
  json('16 MiB of short keys in one object that is not a record', () => `[${manyKeys(BATCH)}]`),
  json('four records of short keys', () => batchOf('keys', manyKeys)),
  json('four records of different shapes', () => batchOf('shapes', manyShapes)),
  json('four records of empty arrays', () => batchOf('arrays', (bytes) => repeated(bytes, '[]'))),
  json('four records of exponents', () => batchOf('exponents', (bytes) => repeated(bytes, '1e1'))),
  json('four records of escapes, with one at the end that cannot be stored', () =>
    batchOf('unstorable', (bytes) => `["${'\\ud83e\\udd80'.repeat((bytes - 100) / 12)}","\\u0000"]`),
  ),
  json('four records of short strings with escapes', () =>
    batchOf('escapes', (bytes) => repeated(bytes, '"\\ud83e\\udd80"')),
  ),
  json('four records that are too deep', () =>
    batchOf('deep', (bytes) => '['.repeat((bytes - 100) / 2 / 16) + ']'.repeat((bytes - 100) / 2 / 16)),
  ),
  json('one record of short keys', () => record(manyKeys(RECORD - 100))),
  json('one record of attributes', () => record('1').replace('}', `,${manyKeys(RECORD - 100).slice(1)}`)),
  json('brackets, as elements', () => repeated(BATCH, '[]')),
  json('brackets, in one element', () => `[${repeated(BATCH - 2, '[]')}]`),
  json('open brackets', () => '['.repeat(BATCH)),
  json(
    'brackets at the greatest depth, in one element',
    () => `[[${fill(BATCH - 4, () => '['.repeat(400) + ']'.repeat(400))}]]`,
  ),
  json('white space, and then a syntax error', () => `${'\n'.repeat(BATCH)}x`),
  json('newlines in an array, and then a syntax error', () => `[[${'1,\n'.repeat(BATCH / 3)}x]]`),
  json('a syntax error at the end of a long record', () => `[${record(manyKeys(BATCH - 200))}}]`),
  json('a string without an end', () => `["${'\\"'.repeat(BATCH / 2)}`),
  json('a byte that is not UTF-8, after replacement characters', () =>
    Buffer.concat([Buffer.from('\ufffd'.repeat(BATCH / 3 - 1)), Buffer.from([0xff])]),
  ),
]

/** The most records that a batch may have. */
export const WORST_BATCHES: WorstBody[] = [
  json('10,000 large records', () => records((n) => record(repeated(1500, '1000003'), n))),
  json('10,000 records of other scripts', () => records((n) => record(`"${'\u20ac'.repeat(500)}"`, `other-${n}`))),
  json('10,000 empty records', () => records(() => '{}')),
  json('10,000 records with an unknown field that has a long name', () =>
    records((n) => `{"${'A'.repeat(1500)}${n}":1}`),
  ),
  json('10,000 records that PostgreSQL cannot store', () =>
    records((n) => record(`{"${'a'.repeat(1400)}":"\\u0000"}`, n)),
  ),
  json('10,000 records with long identities', () =>
    records(
      (n) => `{"source":"${'s'.repeat(512)}","type":"t","id":"${String(n).padStart(256, '"').replaceAll('"', '\\"')}"}`,
    ),
  ),
  json('a strict batch of 10,000 empty records', () => records(() => '{}'), { prefer: 'handling=strict' }),
]

/** Compressed bodies, CloudEvents and lines. */
export const WORST_FORMATS: WorstBody[] = [
  json('short keys, compressed', () => gzipSync(batchOf('compressed', manyKeys)), { 'content-encoding': 'gzip' }),
  json('empty frames of zstd', () => emptyFrames(2 * MiB), { 'content-encoding': 'zstd' }),
  json('skippable frames of zstd', () => skippableFrames(2 * MiB), { 'content-encoding': 'zstd' }),
  json('an event of short keys', () => event(record(manyKeys(RECORD - 200))), {
    'content-type': 'application/cloudevents+json',
  }),
  json(
    'four events of short keys',
    () => batchOf('events', manyKeys).replaceAll('{"source"', '{"specversion":"1.0","source"'),
    {
      'content-type': 'application/cloudevents-batch+json',
    },
  ),
  json('16 MiB of short keys where an array is expected', () => manyKeys(RECORD), {
    'content-type': 'application/cloudevents-batch+json',
  }),
  json('16 MiB of short keys where an object is expected', () => `[${manyKeys(BATCH)}]`, {
    'content-type': 'application/cloudevents+json',
  }),
  json('short keys as the data of an event', () => manyKeys(RECORD - 200), EVENT),
  ...['x', '{}', '[]', '', '{"a":1}'].map((line) => json(`lines: ${line || 'empty'}`, () => lines(line), LINES_TYPE)),
  json(
    'lines that are large records',
    () => `${batchOf('lines', manyKeys).slice(1, -1).replaceAll('},{', '}\n{')}\n`,
    LINES_TYPE,
  ),
  json('lines that are not UTF-8', () => Buffer.from(lines('\u00ff'), 'latin1'), LINES_TYPE),
]

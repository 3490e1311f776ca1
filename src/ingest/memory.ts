import { isAscii } from 'node:buffer'
import type { Row } from '../data/row.ts'
import type { Fault } from '../lib/problems.ts'
import { isFault } from './json-records.ts'

// What a request holds in memory until it is answered, beyond its bytes. Measured by test/ingest/memory.test.ts, which fails
// when a waiting request holds more than is reserved for it. Without this, 25-byte requests fill the heap while the budget
// is nearly empty.

/** Node's and Fastify's objects of a request and its answer, and its place in the writer's queue: 8 KB, and a reserve. */
const REQUEST_BYTES = 10 * 1024
/** A record's row, the strings of its attributes, and its outcome: from 200 bytes to 500, and a reserve. */
const RECORD_BYTES = 640
/** In characters: the longest text of a fault that is within RECORD_BYTES. */
const SHORT_FAULT = 256

/** Of a stream of lines, beyond a request's: its connection's read buffer, its iterator and its inflater. 35 to 50 KB. */
export const IDLE_STREAM_BYTES = 56 * 1024

/** A name or a value of a header beyond its characters: a string of V8, and its places in lists and maps. */
const HEADER_BYTES = 32

/** What every request holds, a stream of lines too: its headers may have 16 KiB. */
export function requestBytes(rawHeaders: readonly string[]): number {
  let bytes = REQUEST_BYTES
  for (const text of rawHeaders) bytes += HEADER_BYTES + text.length
  return bytes
}

/**
 * What the text of a body holds while its records wait. Their payloads are parts of it, and V8 takes two bytes a character
 * when one of them is not in Latin-1; or they are its bytes in base64.
 */
export const textBytes = (content: Buffer, isBinary: boolean): number =>
  !isBinary && isAscii(content) ? content.length : content.length * 2

/**
 * What records hold beyond the text of their body, until they are written; and, together with the text, what the answer holds
 * after that. It says of each record less than RECORD_BYTES, and its source and id, which are in the text: so the answer to
 * records that are committed needs no memory that could be refused then. But a fault may name a field as long as the body,
 * or all prefixes of the key.
 */
export function recordsBytes(records: readonly (Row | Fault)[]): number {
  let bytes = records.length * RECORD_BYTES
  for (const record of records) {
    if (!isFault(record)) continue
    const length = (record.pointer?.length ?? 0) + record.detail.length
    if (length > SHORT_FAULT) bytes += 2 * length
  }
  return bytes
}

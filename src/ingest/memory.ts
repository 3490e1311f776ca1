import { isAscii } from 'node:buffer'
import type { Row } from '../postgres/row.ts'
import type { Fault } from '../problems.ts'
import { isFault } from './json-records.ts'

// Memory that a request holds until it is answered, in addition to its body. test/ingest/body-memory.test.ts measures it and fails
// if a waiting request holds more than is reserved for it. Without these amounts, requests of 25 bytes would fill the heap while
// the budget is nearly empty.

/** Objects of Node.js and Fastify for a request and its response, and its entry in the writer's queue: 8 KB plus a margin. */
const REQUEST_BYTES = 10 * 1024
/** A record's row, the strings of its attributes, and its outcome: 200 to 500 bytes, plus a margin. */
const RECORD_BYTES = 640
/** Maximum length of the texts of a fault that fit into RECORD_BYTES, in characters. */
const SHORT_FAULT = 256

/** A stream of lines needs this in addition to a request: its connection's read buffer, its iterator and its inflater, 35 to 50 KB. */
export const IDLE_STREAM_BYTES = 56 * 1024

/** A header's name or value, in addition to its characters: a V8 string, and entries in lists and maps. */
const HEADER_BYTES = 32

/** Memory of any request, including a stream of lines. Its headers may have 16 KiB. */
export function requestBytes(rawHeaders: readonly string[]): number {
  let bytes = REQUEST_BYTES
  for (const text of rawHeaders) bytes += HEADER_BYTES + text.length
  return bytes
}

/**
 * Memory of a body's text while its records wait. The payloads are slices of the text, for which V8 takes two bytes per character
 * if any character is not in Latin-1. In binary mode, the text may be the bytes in base64.
 */
export const textBytes = (content: Buffer, isBinary: boolean): number =>
  !isBinary && isAscii(content) ? content.length : content.length * 2

/**
 * Memory of records in addition to the text of their body, until they are written. Together with the text, it is also enough for
 * the response: the result of a record takes less than RECORD_BYTES plus its source, id and type, which are in the text. So the
 * response to committed records needs no further memory, which could be refused. Long faults are counted separately: a fault
 * may name a field as long as the body, or all prefixes of the key.
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

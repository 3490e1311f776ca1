import { sourceRefusal } from '../access/check-key.ts'
import { countRecords } from '../data/count-records.ts'
import type { Listing } from '../data/listing.ts'
import { type StoredRecord, selectPage, selectRecord } from '../data/select-records.ts'
import { before } from '../lib/before.ts'
import { encodeOffset } from '../lib/offset.ts'
import { Problem } from '../problems.ts'
import type { ListQuery } from '../schemas/list.ts'
import { refuseInvalidOffset } from './check-offset.ts'
import { partsOf, readFields } from './fields.ts'
import { explainJsonpath, readCursor, readFilter, readLimit } from './filter.ts'
import { payloadOf, payloadType } from './payload.ts'
import { inTurn, type Reader } from './reader.ts'
import { refuseParameter } from './refuse-parameter.ts'
import { ReservedText } from './reserved-text.ts'
import { jsonWriter } from './write-fields.ts'
import { writeCloudEvent, writeRecord } from './write-record.ts'

/** The form of a record in a response. */
export type Shape = 'record' | 'cloudevent'

/** A response with one record. */
interface Representation {
  type: string
  body: Buffer
  /** Whether it is the payload alone. */
  isPayload: boolean
}

/** Reserves memory. The argument is the new total in bytes. @throws Problem overloaded */
export type Reserve = (bytes: number) => void

const writers: Record<Shape, (record: StoredRecord) => string> = { record: writeRecord, cloudevent: writeCloudEvent }

/**
 * Reads one record, or its payload alone.
 * @param choose returns one of these media types: those of a record, and then that of its payload
 * @throws Problem not_found, source_forbidden, overloaded; the reason of the reader's signal; what `choose` throws
 */
export async function readRecord(
  reader: Reader,
  source: string,
  id: string,
  choose: (types: readonly string[]) => string,
  reserve: Reserve,
): Promise<Representation> {
  const { db, key, signal } = reader
  const refusal = sourceRefusal(key, source)
  if (refusal !== undefined) throw new Problem('source_forbidden', refusal)
  // PostgreSQL cannot store U+0000, so no record contains it.
  const record = `${source}${id}`.includes('\0')
    ? undefined
    : await inTurn(reader, () => selectRecord(db, source, id, signal))
  if (record === undefined) throw new Problem('not_found', NOT_STORED)
  const own = payloadType(record)
  const type = choose([...Object.keys(RECORD_TYPES), essence(own)])
  const shape = RECORD_TYPES[type]
  if (shape === undefined) {
    reserve(record.data_base64?.length ?? Buffer.byteLength(record.data ?? ''))
    return { type: own, body: payloadOf(record), isPayload: true }
  }
  const text = new ReservedText(reserve)
  text.add(writers[shape](record))
  return { type: `${type}; charset=utf-8`, body: text.finish(), isPayload: false }
}

const NOT_STORED =
  'No record with this source and id is stored. Both are compared exactly, including upper and lower case.'

const essence = (type: string) => before(type, ';').trim().toLowerCase()

const RECORD_TYPES: Partial<Record<string, Shape>> = {
  'application/json': 'record',
  'application/cloudevents+json': 'cloudevent',
}

export interface Page {
  /** As JSON. */
  body: Buffer
  /** Cursor of the next page; null: this is the last page. */
  next: string | null
}

/**
 * Reads a page of records. Each record is written to the page as it arrives, so a page that is being built takes little more
 * memory than the finished one. This memory is reserved when the first record arrives.
 * @throws Problem invalid_query, invalid_offset, offset_ahead, overloaded; the reason of the reader's signal
 */
export async function readPage(
  reader: Reader,
  query: ListQuery,
  maxBytes: number,
  shape: Shape,
  reserve: Reserve,
): Promise<Page> {
  const { db, key, signal } = reader
  const listing: Listing = {
    filter: readFilter(query, key),
    order: query.order ?? 'desc',
    after: readCursor(query.cursor),
    until: undefined,
  }
  const limit = readLimit(query.limit)
  if (shape === 'cloudevent' && query.count === true) refuseParameter('count', 'is not possible with CloudEvents')
  if (shape === 'cloudevent' && query.fields !== undefined)
    refuseParameter('fields', 'is not possible with CloudEvents')
  const fields = query.fields === undefined ? undefined : readFields(query.fields)
  const write = fields === undefined ? writers[shape] : jsonWriter(fields)
  const text = new ReservedText(reserve)
  let separator = shape === 'record' ? '{"records":[' : '['
  let first: number | undefined
  const page = { ...listing, limit, maxBytes, parts: fields && partsOf(fields) }
  const { last, more } = await inTurn(reader, () =>
    selectPage(db, page, signal, (record, pageBytes) => {
      first ??= record.epoch
      // With fields, most of what is read may not be written. The text grows while it is written.
      if (fields === undefined) text.reserve(pageBytes + ENDS_BYTES)
      text.add(separator)
      text.add(write(record))
      separator = ','
    }),
  ).catch(explainJsonpath(query))
  if (listing.order === 'asc') await refuseInvalidOffset(listing.after, first, reader)
  const count = query.count === true ? await inTurn(reader, () => countRecords(db, all(listing), signal)) : undefined
  const next = more && last !== undefined ? encodeOffset(last) : null
  if (last === undefined) text.add(separator)
  const counted = count === undefined ? '' : `,"count":${count}`
  text.add(shape === 'record' ? `],"next":${JSON.stringify(next)}${counted}}` : ']')
  return { body: text.finish(), next }
}

const all = (listing: Listing): Listing => ({ ...listing, after: undefined })

/** The text before and after the records, with the cursor. */
const ENDS_BYTES = 128

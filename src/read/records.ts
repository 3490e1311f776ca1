import { type StoredRecord, selectPage, selectRecord } from '../data/select-records.ts'
import { encodeCursor } from '../lib/cursor.ts'
import { Problem } from '../lib/problems.ts'
import { sourceRefusal } from '../operate/access.ts'
import type { ListQuery } from '../schemas/list.ts'
import { refuseLost } from './ahead.ts'
import { readCursor, readFilter, readLimit } from './filter.ts'
import { inTurn, type Reader } from './reader.ts'
import { ReservedText } from './reserved-text.ts'
import { writeCloudEvent, writeRecord } from './write-record.ts'

/** What a record looks like on the wire. */
export type Shape = 'record' | 'cloudevent'

/** Reserves memory: called with the bytes that are held from now on. @throws Problem overloaded */
export type Hold = (bytes: number) => void

const writers: Record<Shape, (record: StoredRecord) => string> = { record: writeRecord, cloudevent: writeCloudEvent }

/**
 * One record, as JSON.
 * @throws Problem not_found, source_forbidden, overloaded; the reason of the reader's signal
 */
export async function readRecord(
  reader: Reader,
  source: string,
  id: string,
  shape: Shape,
  hold: Hold,
): Promise<Buffer> {
  const { db, key, signal } = reader
  const refusal = sourceRefusal(key, source)
  if (refusal !== undefined) throw new Problem('source_forbidden', refusal)
  // PostgreSQL's text has no U+0000, so no record has it.
  const record = `${source}${id}`.includes('\0')
    ? undefined
    : await inTurn(reader, () => selectRecord(db, source, id, signal))
  if (record === undefined) throw new Problem('not_found', 'No record with this source and id is stored.')
  const text = new ReservedText(hold)
  text.add(writers[shape](record))
  return text.finish()
}

export interface Page {
  /** As JSON. */
  body: Buffer
  /** Cursor of the next page; null on the last. */
  next: string | null
}

/**
 * A page of records. Each is written to the page as it arrives, so that under construction a page costs little more than
 * it takes in the end, and that is reserved when its first record is there.
 * @throws Problem invalid_query, invalid_cursor, cursor_ahead, overloaded; the reason of the reader's signal
 */
export async function readPage(
  reader: Reader,
  query: ListQuery,
  maxBytes: number,
  shape: Shape,
  hold: Hold,
): Promise<Page> {
  const { db, key, signal } = reader
  const request = {
    filter: readFilter(query, key),
    order: query.order ?? ('desc' as const),
    after: readCursor(query.cursor),
    until: undefined,
    limit: readLimit(query.limit),
    maxBytes,
  }
  const text = new ReservedText(hold)
  let separator = shape === 'record' ? '{"records":[' : '['
  let first: number | undefined
  const { last, more } = await inTurn(reader, () =>
    selectPage(db, request, signal, (record, pageBytes) => {
      first ??= record.epoch
      text.reserve(pageBytes + ENDS_BYTES)
      text.add(separator)
      text.add(writers[shape](record))
      separator = ','
    }),
  )
  if (request.order === 'asc') await refuseLost(request.after, first, reader)
  const next = more && last !== undefined ? encodeCursor(last) : null
  if (last === undefined) text.add(separator)
  text.add(shape === 'record' ? `],"next":${JSON.stringify(next)}}` : ']')
  return { body: text.finish(), next }
}

/** What is around the records, with the cursor. */
const ENDS_BYTES = 128

import { AsyncLocalStorage } from 'node:async_hooks'
import { type Options, stringify } from 'csv-stringify/sync'
import { type Listing, selectHorizon } from '../data/listing.ts'
import { type StoredRecord, selectPage } from '../data/select-records.ts'
import { toRfc3339 } from '../lib/pg-time.ts'
import { CSV_COLUMNS } from '../schemas/csv.ts'
import type { ListQuery } from '../schemas/list.ts'
import { refuseInvalidOffset } from './check-offset.ts'
import { type Field, partsOf, readFields } from './fields.ts'
import { explainJsonpath, readCursor, readFilter, readLimit } from './filter.ts'
import { inTurn, type Reader } from './reader.ts'
import { refuseParameter } from './refuse-parameter.ts'
import { ReservedText } from './reserved-text.ts'
import { retryDuringOutage } from './retry.ts'
import { cellReader, jsonWriter } from './write-fields.ts'
import { cursorOf, timeOf, writeRecord } from './write-record.ts'

/** The size of a page. Two pages are in memory: one is being sent while the next is fetched. */
const PAGE_ROWS = 1000
const PAGE_BYTES = 1024 * 1024

/** The memory of an export, unless records are larger than a page: two pages, and about 0.5 MiB as measured. */
export const EXPORT_BYTES = 2.5 * PAGE_BYTES

export interface ExportFormat {
  /** Prepares to write these fields of each record. Absent: all. */
  open(fields: readonly Field[] | undefined): Lines
}

interface Lines {
  /** Text before the first record. */
  head: string
  /** A record, with its line end. */
  write(record: StoredRecord): string
}

/** application/x-ndjson. It can be posted back unchanged; then all records are duplicates. */
export const NDJSON: ExportFormat = {
  open(fields) {
    const write = fields === undefined ? writeRecord : jsonWriter(fields)
    // Payloads are stored as they were sent and may contain newlines. In JSON these are white space, because strings cannot
    // contain them.
    return { head: '', write: (record) => `${write(record).replaceAll(/[\r\n]/g, ' ')}\n` }
  },
}

/** text/csv (RFC 4180), with a header. `data` and `extensions` are JSON; with fields, strings within them have no quotes. */
export const CSV: ExportFormat = {
  open(fields) {
    const toLine = (cells: readonly (string | null)[]) => stringify([cells], CSV_OPTIONS)
    const toCells = fields === undefined ? toRow : cellReader(fields)
    return {
      head: toLine(fields?.map(({ name }) => name) ?? CSV_COLUMNS),
      write: (record) => toLine(toCells(record)),
    }
  },
}

const CSV_OPTIONS: Options = {
  record_delimiter: 'windows',
  // By default, only a cell with both is quoted. A payload may contain one of them between its values.
  quoted_match: /[\r\n]/,
  // Absent is an empty cell, and empty bytes are a pair of quotes.
  cast: { string: (text) => (text === '' ? { value: text, quoted_empty: true } : text) },
}

/**
 * Exports the whole selection, page by page, without records that are stored after the request. Each page continues at the
 * position where the previous one ended. Between two pages, no connection and no snapshot is held, however slowly the reader
 * reads, and the export can continue after an outage. Each page waits for its turn like a page of a list.
 * @param holdMs how long it waits for the database in an outage, once it has begun
 * @returns when the first page has been read, so that earlier errors still get a response of their own
 * @throws Problem invalid_query, invalid_offset, offset_ahead, overloaded; the reason of the reader's signal
 */
export async function openExport(
  reader: Reader,
  query: ListQuery,
  format: ExportFormat,
  holdMs: number,
): Promise<AsyncIterable<Buffer>> {
  const { db, key, signal } = reader
  const order = query.order ?? 'desc'
  if (query.count === true) refuseParameter('count', 'works only for a page: request application/json')
  const fields = query.fields === undefined ? undefined : readFields(query.fields)
  const parts = fields && partsOf(fields)
  const { head, write } = format.open(fields)
  let left = query.limit === undefined ? Number.POSITIVE_INFINITY : readLimit(query.limit)
  const listing: Listing = {
    filter: readFilter(query, key),
    order,
    after: readCursor(query.cursor),
    // In ascending order, the export would never end while others write.
    until: order === 'asc' ? await inTurn(reader, () => selectHorizon(db, signal)) : undefined,
  }
  async function fetch(head = '') {
    // EXPORT_BYTES are already reserved.
    const text = new ReservedText(() => {})
    text.add(head)
    let count = 0
    let epoch: number | undefined
    const page = { ...listing, limit: Math.min(left, PAGE_ROWS), maxBytes: PAGE_BYTES, parts }
    const { last, more } = await selectPage(db, page, signal, (record, pageBytes) => {
      epoch ??= record.epoch
      text.reserve(head.length + pageBytes)
      text.add(write(record))
      count++
    })
    return { body: text.finish(), count, epoch, last, more }
  }
  const first = await inTurn(reader, () => fetch(head)).catch(explainJsonpath(query))
  if (order === 'asc') await refuseInvalidOffset(listing.after, first.epoch, reader)

  // Bound to this request's context, which has its trace. A generator runs in the context of its reader: on a connection with
  // several requests, Node.js reads the response of one in the context of another.
  const fetchNext = AsyncLocalStorage.bind(() =>
    retryDuringOutage(() => inTurn({ ...reader, isPatient: true }, fetch), holdMs, signal),
  )

  async function* pages(): AsyncGenerator<Buffer> {
    for (let page = first; ; ) {
      const { body, count, last, more } = page
      left -= count
      listing.after = last
      const next = more && left > 0 ? fetchNext() : undefined
      // If the reader disconnects, nothing awaits this promise. Otherwise the error is thrown below.
      next?.catch(() => {})
      if (body.length > 0) yield body
      if (next === undefined) return
      page = await next
    }
  }
  return pages()
}

function toRow(record: StoredRecord): (string | null)[] {
  const { source, id, type, subject, dataschema, datacontenttype, extensions, data, data_base64 } = record
  const time = timeOf(record)
  const receivedAt = toRfc3339(record.received_at)
  return [
    source,
    id,
    type,
    time,
    subject,
    dataschema,
    datacontenttype,
    extensions,
    data,
    data_base64,
    receivedAt,
    cursorOf(record),
  ]
}

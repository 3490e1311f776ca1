import { stringify } from 'csv-stringify/sync'
import type { Database } from '../data/schema.ts'
import { type PageRequest, type StoredRecord, selectHorizon, selectPage } from '../data/select-records.ts'
import { toRfc3339 } from '../lib/pg-time.ts'
import type { Key } from '../operate/keys.ts'
import { CSV_COLUMNS } from '../schemas/csv.ts'
import type { ListQuery } from '../schemas/list.ts'
import { refuseAhead } from './ahead.ts'
import { readCursor, readFilter, readLimit } from './filter.ts'
import { throughOutages } from './through-outages.ts'
import { cursorOf, timeOf, writeRecord } from './write-record.ts'

/** What is fetched at a time. Two of them are in memory: one being sent, the next being fetched. */
const PAGE_ROWS = 1000
const PAGE_BYTES = 1024 * 1024

/** What an export holds in memory, but for records that are larger than a page. */
export const EXPORT_BYTES = 2 * PAGE_BYTES

/**
 * The whole selection, page after page, as it stood when it was asked for. Each page continues at the position where
 * the one before ended: between two of them no connection and no snapshot is held, however slowly the reader reads; and
 * so it goes on after an outage.
 * @param holdMs how long it waits for a database that is away, once it has begun
 * @returns after the first page is there, so that what is wrong until then is still an answer of its own
 * @throws Problem invalid_query, invalid_cursor, cursor_ahead
 */
export async function openExport(
  db: Database,
  primary: Database,
  key: Key,
  query: ListQuery,
  holdMs: number,
): Promise<AsyncIterable<StoredRecord[]>> {
  const order = query.order ?? 'desc'
  let left = query.limit === undefined ? Number.POSITIVE_INFINITY : readLimit(query.limit)
  const request: Omit<PageRequest, 'limit'> = {
    filter: readFilter(query, key),
    order,
    after: readCursor(query.cursor),
    // Upwards there would be no end while others write.
    until: order === 'asc' ? await selectHorizon(db) : undefined,
    maxBytes: PAGE_BYTES,
  }
  const fetch = () => selectPage(db, { ...request, limit: Math.min(left, PAGE_ROWS) })
  const first = await fetch()
  if (first.records.length === 0 && order === 'asc') await refuseAhead(request.after, db, primary)

  async function* pages(): AsyncGenerator<StoredRecord[]> {
    for (let page = first; ; ) {
      left -= page.records.length
      const last = page.records.at(-1)
      if (last === undefined) return
      request.after = { epoch: last.epoch, xid: last.xid, n: Number(last.n) }
      const next = page.more && left > 0 ? throughOutages(fetch, holdMs) : undefined
      // A reader who leaves makes nobody wait for it; one who goes on gets the error below.
      next?.catch(() => {})
      yield page.records
      if (next === undefined) return
      page = await next
    }
  }
  return pages()
}

/** application/x-ndjson: can be posted back as it is, and is all duplicates then. */
export async function* writeNdjson(pages: AsyncIterable<StoredRecord[]>): AsyncGenerator<string> {
  for await (const records of pages) yield `${records.map(writeLine).join('\n')}\n`
}

/** Outside of its strings a newline in JSON is white space, and inside there is none: payloads are kept as they came. */
function writeLine(record: StoredRecord): string {
  return writeRecord(record).replaceAll(/[\r\n]/g, ' ')
}

/** text/csv (RFC 4180), with a header; `data` and `extensions` are JSON. */
export async function* writeCsv(pages: AsyncIterable<StoredRecord[]>): AsyncGenerator<string> {
  yield `${CSV_COLUMNS.join()}\r\n`
  for await (const records of pages) yield stringify(records.map(toRow), { record_delimiter: 'windows' })
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

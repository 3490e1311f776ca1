import { type RawBuilder, type Selectable, sql } from 'kysely'
import type { Position } from '../lib/offset.ts'
import { readRows } from '../postgres/read-rows.ts'
import type { Database, Tables } from '../postgres/tables.ts'
import { inFeedOrder, isListed, type Listing } from './listing.ts'
import { MIN_SIZE, output, type Parts, size, WHOLE } from './record-parts.ts'

/** A record of the table, or what was read of it (Parts). Times, 64-bit numbers and JSON are PostgreSQL's text. */
export type StoredRecord = Omit<Selectable<Tables['sluice.records']>, 'data_bytes'> & {
  data_base64: string | null
}

interface PageRequest extends Listing {
  limit: number
  /** The page ends before a record with which it would exceed this size. It has at least one record. */
  maxBytes: number
  /** Absent: the whole record. */
  parts?: Parts | undefined
}

const COLUMNS = sql`epoch, xid, n, received_at, "time", source, id, type, subject, dataschema, datacontenttype, extensions, data, data_bytes`

/** @param signal cancels the statement. @throws the reason of `signal` */
export async function selectRecord(
  db: Database,
  source: string,
  id: string,
  signal?: AbortSignal,
): Promise<StoredRecord | undefined> {
  let record: StoredRecord | undefined
  const query = sql<StoredRecord>`SELECT ${output(WHOLE)} FROM sluice.records WHERE source = ${source} AND id = ${id}`
  await readRows(db, query, signal, (row) => {
    record = row
  })
  return record
}

/**
 * Reads a page in feed order, or in reverse. The query looks for one record more than the limit: `more` says whether there is
 * a next page.
 * @param onRow gets each record as it arrives, and the approximate size of the whole page as JSON. If it throws or `signal`
 *   aborts, the statement is cancelled
 * @returns the position of the last record, and not the record, which would keep its payload in memory
 * @throws the reason of `signal`; what `onRow` throws
 */
export async function selectPage(
  db: Database,
  page: PageRequest,
  signal: AbortSignal,
  onRow: (record: StoredRecord, pageBytes: number) => void,
): Promise<{ last: Position | undefined; more: boolean }> {
  const query = boundedPage(page)
  let [count, found] = [0, 0]
  let last: Position | undefined
  await readRows(db, query, signal, (row) => {
    onRow(row, row.page_bytes)
    count++
    found = row.found
    last = { epoch: row.epoch, xid: row.xid, n: Number(row.n) }
  })
  return { last, more: found > count }
}

/** A row of a page. */
type PageRow = StoredRecord & {
  /** How many records were found, up to one more than the limit. */
  found: number
  /** The approximate size of the whole page as JSON. */
  page_bytes: number
}

/** The query of a page, in its order. */
function boundedPage(page: PageRequest): RawBuilder<PageRow> {
  const { maxBytes, parts = WHOLE } = page
  // No record is smaller, so more than these are not fetched to be measured.
  const limit = Math.min(page.limit, Math.ceil(maxBytes / MIN_SIZE))
  const ordered = (of: 'records' | 'candidates' | 'measured') => inFeedOrder(of, page.order)
  // The sizes are summed up before the payloads are fetched. So a page of large records takes about `maxBytes` of memory, here
  // and in the server, and not a thousand times the largest record.
  return sql<PageRow>`
    SELECT ${output(parts)}, ordinal, found::integer, (max(bytes) OVER ())::float8 AS page_bytes
    FROM (
      SELECT *, row_number() OVER running AS ordinal, count(*) OVER () AS found, sum(${size(parts)}) OVER running AS bytes
      FROM (
        SELECT ${COLUMNS} FROM sluice.records WHERE ${isListed(page)}
        ${ordered('records')} LIMIT ${limit + 1}
      ) AS candidates
      WINDOW running AS (${ordered('candidates')} ROWS UNBOUNDED PRECEDING)
    ) AS measured
    WHERE ordinal = 1 OR (ordinal <= ${limit} AND bytes <= ${maxBytes})
    ${ordered('measured')}
  `
}

import type { Database } from '../data/schema.ts'
import { type StoredRecord, selectPage, selectRecord } from '../data/select-records.ts'
import { Problem } from '../lib/problems.ts'
import { sourceRefusal } from '../operate/access.ts'
import type { Key } from '../operate/keys.ts'
import type { ListQuery } from '../schemas/list.ts'
import { refuseAhead } from './ahead.ts'
import { readCursor, readFilter, readLimit } from './filter.ts'
import { cursorOf, writeCloudEvent, writeRecord } from './write-record.ts'

/** What a record looks like on the wire. */
export type Shape = 'record' | 'cloudevent'

const writers: Record<Shape, (record: StoredRecord) => string> = { record: writeRecord, cloudevent: writeCloudEvent }

/** One record, as JSON text. @throws Problem not_found, source_forbidden */
export async function readRecord(db: Database, key: Key, source: string, id: string, shape: Shape): Promise<string> {
  const refusal = sourceRefusal(key, source)
  if (refusal !== undefined) throw new Problem('source_forbidden', refusal)
  // PostgreSQL's text has no U+0000, so no record has it.
  const record = `${source}${id}`.includes('\0') ? undefined : await selectRecord(db, source, id)
  if (record === undefined) throw new Problem('not_found', 'No record with this source and id is stored.')
  return writers[shape](record)
}

export interface Page {
  /** The records, each as JSON text. */
  records: string[]
  /** Cursor of the next page; null on the last. */
  next: string | null
}

/** A page of records. @throws Problem invalid_query, invalid_cursor, cursor_ahead */
export async function readPage(
  db: Database,
  primary: Database,
  key: Key,
  query: ListQuery,
  maxBytes: number,
  shape: Shape,
): Promise<Page> {
  const [order, after] = [query.order ?? 'desc', readCursor(query.cursor)]
  const { records, more } = await selectPage(db, {
    filter: readFilter(query, key),
    order,
    after,
    until: undefined,
    limit: readLimit(query.limit),
    maxBytes,
  })
  const last = records.at(-1)
  if (last === undefined && order === 'asc') await refuseAhead(after, db, primary)
  return { records: records.map(writers[shape]), next: more && last !== undefined ? cursorOf(last) : null }
}

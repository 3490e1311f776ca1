import type { Database } from '../data/schema.ts'
import { type StoredRecord, selectPage, selectRecord } from '../data/select-records.ts'
import { encodeCursor } from '../lib/cursor.ts'
import { toRfc3339 } from '../lib/pg-time.ts'
import { Problem } from '../lib/problems.ts'
import { mayUseSource } from '../operate/access.ts'
import type { Key } from '../operate/keys.ts'
import type { ListQuery } from '../schemas/list.ts'
import { readCursor, readFilter } from './filter.ts'

/** One record, as JSON text. @throws Problem not_found, source_forbidden */
export async function readRecord(db: Database, key: Key, source: string, id: string): Promise<string> {
  if (!mayUseSource(key, source))
    throw new Problem('source_forbidden', `The API key ${key.id} may not read this source.`)
  // PostgreSQL's text has no U+0000, so no record has it.
  const record = `${source}${id}`.includes('\0') ? undefined : await selectRecord(db, source, id)
  if (record === undefined) throw new Problem('not_found', 'No record with this source and id is stored.')
  return writeRecord(record)
}

/** A page of records, as JSON text. @throws Problem invalid_query, invalid_cursor */
export async function readPage(db: Database, key: Key, query: ListQuery, maxBytes: number): Promise<string> {
  const { records, more } = await selectPage(db, {
    filter: readFilter(query, key),
    order: query.order ?? 'desc',
    after: readCursor(query.cursor),
    limit: query.limit ?? 100,
    maxBytes,
  })
  const last = records.at(-1)
  const next = more && last !== undefined ? `"${cursorOf(last)}"` : 'null'
  return `{"records":[${records.map(writeRecord).join()}],"next":${next}}`
}

/**
 * A record as it is read back. Written by hand, because the payload is put in as the text that it is: to parse it, only
 * to write it again, would round its numbers.
 */
export function writeRecord(record: StoredRecord): string {
  let text = `{"specversion":"1.0","source":${JSON.stringify(record.source)},"id":${JSON.stringify(record.id)},"type":${JSON.stringify(record.type)}`
  text += `,"time":"${toRfc3339(record.time ?? record.received_at)}"`
  for (const name of ['subject', 'dataschema', 'datacontenttype'] as const) {
    if (record[name] !== null) text += `,"${name}":${JSON.stringify(record[name])}`
  }
  // An object of the table, without its brackets.
  if (record.extensions !== null) text += `,${record.extensions.slice(1, -1)}`
  if (record.data !== null) text += `,"data":${record.data}`
  if (record.data_base64 !== null) text += `,"data_base64":"${record.data_base64}"`
  return `${text},"receivedAt":"${toRfc3339(record.received_at)}","cursor":"${cursorOf(record)}"}`
}

const cursorOf = ({ epoch, xid, n }: StoredRecord) => encodeCursor({ epoch, xid, n: Number(n) })

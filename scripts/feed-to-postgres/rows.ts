import type { FeedRecord } from '../../src/client/feed.ts'
import { pick } from '../../src/lib/json/pick.ts'

const DATA = new Map([['data', 0]])

/** The columns of feed_records, each with the type in which its values are sent. */
export const COLUMNS = [
  { name: 'cursor', type: 'text' },
  { name: 'source', type: 'text' },
  { name: 'id', type: 'text' },
  { name: 'type', type: 'text' },
  { name: 'time', type: 'timestamptz' },
  { name: 'subject', type: 'text' },
  { name: 'dataschema', type: 'text' },
  { name: 'datacontenttype', type: 'text' },
  { name: 'extensions', type: 'jsonb' },
  { name: 'data', type: 'json' },
  { name: 'data_bytes', type: 'bytea' },
  { name: 'received_at', type: 'timestamptz' },
] as const

type Row = Record<(typeof COLUMNS)[number]['name'], string | Buffer | null>

/** The payload stays text: JSON.parse would round its numbers. */
export function toRow({ text }: FeedRecord): Row {
  const { specversion, data, data_base64, receivedAt, cursor, source, id, type, time, ...others } = JSON.parse(text)
  const { subject = null, dataschema = null, datacontenttype = null, ...extensions } = others
  const payload: [string | null] = [null]
  pick(text, DATA, payload)
  return {
    cursor,
    source,
    id,
    type,
    time,
    subject,
    dataschema,
    datacontenttype,
    extensions: Object.keys(extensions).length === 0 ? null : JSON.stringify(extensions),
    data: payload[0],
    data_bytes: data_base64 === undefined ? null : Buffer.from(data_base64, 'base64'),
    received_at: receivedAt,
  }
}

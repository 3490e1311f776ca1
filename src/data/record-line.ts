import { type RawBuilder, sql } from 'kysely'

/**
 * A record of sluice.records as JSON on one line, as read/write-record.ts writes it; the table is named `measured`. PostgreSQL writes
 * it in a fraction of the time that it takes to send the columns and to write it here.
 *
 * Payloads are stored as they were sent and may contain line breaks. In JSON these are white space, because strings cannot contain
 * them. translate() would take longer than everything else.
 */
export const LINE: RawBuilder<string> = sql`
  '{"specversion":"1.0","source":' || to_json(source)::text || ',"id":' || to_json(id)::text ||
  ',"type":' || to_json(type)::text || ',"time":' || ${time(sql`coalesce("time", received_at)`)} ||
  CASE WHEN num_nonnulls(subject, dataschema, datacontenttype, extensions) = 0 THEN '' ELSE
    coalesce(',"subject":' || to_json(subject)::text, '') ||
    coalesce(',"dataschema":' || to_json(dataschema)::text, '') ||
    coalesce(',"datacontenttype":' || to_json(datacontenttype)::text, '') ||
    coalesce(',' || left(right(extensions::text, -1), -1), '')
  END || (
  CASE WHEN data IS NOT NULL THEN ',"data":' || replace(replace(data::text, E'\\r', ' '), E'\\n', ' ')
       WHEN data_bytes IS NOT NULL THEN ',"data_base64":"' || replace(encode(data_bytes, 'base64'), E'\\n', '') || '"'
       ELSE '' END ||
  ',"receivedAt":' || ${time(sql`received_at`)} || ',"cursor":"' || ${offset(sql`int4send(epoch) || xid8send(xid) || int8send(n)`)} ||
  E'"}\\n')`

/** As JSON. In the session's time zone, which is UTC, PostgreSQL ends it with +00:00. */
function time(column: RawBuilder<unknown>): RawBuilder<string> {
  return sql`replace(to_json(${column})::text, '+00:00', 'Z')`
}

/** As lib/offset.ts encodes it. @param position its 20 bytes */
function offset(position: RawBuilder<unknown>): RawBuilder<string> {
  return sql`'1' || encode(${position} || substr(int8send(crc32(${position})), 5), 'hex')`
}

/** The size of a line without the texts of the record, in bytes. */
export const MIN_LINE_SIZE = 256

/** The size of the payload in the table in bytes, perhaps compressed, and always less than that of its line. Payloads are not fetched for it. */
export const STORED_SIZE = sql`coalesce(pg_column_size(data), 0) + coalesce(pg_column_size(data_bytes), 0)`

/** The approximate size of a line in bytes. PostgreSQL fetches `data` for it, because it has to convert json to text. */
export const LINE_SIZE = sql`${sql.lit(MIN_LINE_SIZE)} + octet_length(source) + octet_length(id) + octet_length(type) + coalesce(octet_length(subject), 0) +
  coalesce(octet_length(dataschema), 0) + coalesce(octet_length(datacontenttype), 0) + coalesce(octet_length(extensions::text), 0) +
  coalesce(octet_length(data::text), 0) + coalesce((octet_length(data_bytes) + 2) / 3 * 4, 0)`

/** The end of a line, after its offset. */
const END = '"}\n'
const OFFSET_LENGTH = 49

/** The offset of the last line. @param lines not empty */
export const lastOffset = (lines: string): string => offsetBefore(lines, lines.length)

/** The offset of the line that ends before this index. */
export const offsetBefore = (lines: string, end: number): string =>
  lines.slice(end - END.length - OFFSET_LENGTH, end - END.length)

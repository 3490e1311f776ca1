import { type RawBuilder, sql } from 'kysely'

/** What to read of each record besides its identity, its type, its times and its position. */
export interface Parts {
  columns: readonly PartColumn[]
  /** How many bytes are written around the values of each record, if these are more than the names of the columns. */
  frame: number
}

export type PartColumn = keyof typeof COLUMNS

/** The columns without a small limit. How to read them, and their size as JSON. */
const COLUMNS = {
  subject: { output: sql`subject`, size: sql`octet_length(to_json(subject)::text)` },
  dataschema: { output: sql`dataschema`, size: sql`octet_length(dataschema)` },
  datacontenttype: { output: sql`datacontenttype`, size: sql`octet_length(to_json(datacontenttype)::text)` },
  extensions: { output: sql`extensions`, size: sql`octet_length(extensions::text)` },
  data: { output: sql`data::text AS data`, size: sql`octet_length(data::text)` },
  // Without the line breaks that encode() inserts.
  data_base64: {
    output: sql`translate(encode(data_bytes, 'base64'), E'\n', '') AS data_base64`,
    size: sql`(octet_length(data_bytes) + 2) / 3 * 4`,
  },
}

export const WHOLE: Parts = { columns: Object.keys(COLUMNS) as PartColumn[], frame: 0 }

/** The select list. Times are returned as text. */
export function output({ columns }: Parts): RawBuilder<unknown> {
  const always = sql`epoch, xid::text AS xid, n::text AS n, received_at, "time", source, id, type`
  return sql.join([always, ...columns.map((column) => COLUMNS[column].output)])
}

/** In bytes. */
export const MIN_SIZE = 512

/**
 * The size of a record as JSON in bytes. MIN_SIZE is for the names of the fields, the times and the cursor. The source and the
 * schema are URIs, which have no character that JSON escapes.
 */
export function size({ columns, frame }: Parts): RawBuilder<unknown> {
  const always = sql`${sql.lit(MIN_SIZE + frame)} + octet_length(source) + octet_length(to_json(id)::text) + octet_length(to_json(type)::text)`
  return sql.join([always, ...columns.map((column) => sql`coalesce(${COLUMNS[column].size}, 0)`)], sql` + `)
}

import { sql } from 'kysely'
import { Column } from './column.ts'
import { pack } from './packed-rows.ts'
import type { Rows } from './row.ts'
import type { Database } from './schema.ts'
import { NOTHING_SEEN, type Seen } from './seen.ts'
import { synchronousTransaction } from './session.ts'

/** A flush owns 2^20 places from `base` on; see `n` in db/migrations/0001_records.sql. */
export const PLACES = 2 ** 20

export interface Inserted {
  /** How many of the rows were new. The others met their identity in the table, or earlier among these rows. */
  created: number
  epoch: number
  xid: string
}

/** The columns of many rows, sent as often as it takes. */
export type Columns = ReturnType<typeof toColumns>

export function toColumns(rows: Rows) {
  const packed = pack(rows)
  return {
    source: new Column(packed, 'source', 'text'),
    id: new Column(packed, 'id', 'text'),
    type: new Column(packed, 'type', 'text'),
    subject: new Column(packed, 'subject', 'text'),
    time: new Column(packed, 'time', 'timestamptz'),
    dataschema: new Column(packed, 'dataschema', 'text'),
    datacontenttype: new Column(packed, 'datacontenttype', 'text'),
    extensions: new Column(packed, 'extensions', 'jsonb'),
    // Not json, of which there is no comparison, and which would be checked here even where it is only compared.
    data: new Column(packed, 'data', 'text'),
    dataBytes: new Column(packed, 'dataBase64', 'bytea'),
  }
}

/** The rows of `columns` as a table `sent`, the place of each from 1 on. */
export const sent = (columns: Columns) => sql`unnest(
    ${columns.source}::text[], ${columns.id}::text[], ${columns.type}::text[], ${columns.subject}::text[],
    ${columns.time}::timestamptz[], ${columns.dataschema}::text[], ${columns.datacontenttype}::text[],
    ${columns.extensions}::jsonb[], ${columns.data}::text[], ${columns.dataBytes}::bytea[]
  ) WITH ORDINALITY AS sent (source, id, type, subject, "time", dataschema, datacontenttype, extensions, data, data_bytes, place)`

/**
 * Stores the rows whose identity is new, in one statement: no row is looked up first, the constraint decides. Outside
 * a transaction it commits by itself, so a flush costs one round trip.
 * @param base first of the flush's places, a multiple of PLACES
 * @param seen the rows come after this
 */
export async function insertRecords(
  db: Database,
  columns: Columns,
  base: number,
  seen: Seen = NOTHING_SEEN,
): Promise<Inserted> {
  const { rows } = await sql<{ created: number; epoch: number; xid: string }>`
    WITH life AS MATERIALIZED (
      SELECT sluice.current_epoch(${seen.epoch}::integer, ${seen.xid}::xid8) AS epoch, ${synchronousTransaction}
    ), stored AS (
      INSERT INTO sluice.records
        (epoch, n, source, id, type, subject, "time", dataschema, datacontenttype, extensions, data, data_bytes)
      SELECT (SELECT epoch FROM life), ${base}::bigint + place - 1, source, id, type, subject, "time",
             dataschema, datacontenttype, extensions, data::json, data_bytes
      FROM ${sent(columns)}
      ON CONFLICT (source, id) DO NOTHING
      RETURNING 1
    )
    SELECT count(*)::integer AS created, (SELECT epoch FROM life) AS epoch, pg_current_xact_id()::text AS xid FROM stored
  `.execute(db)
  return rows[0] as Inserted
}

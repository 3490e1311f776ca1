import { sql } from 'kysely'
import { Column } from '../postgres/column.ts'
import { pack } from '../postgres/packed-rows.ts'
import type { Rows } from '../postgres/row.ts'
import { synchronousTransaction } from '../postgres/session.ts'
import type { Database } from '../postgres/tables.ts'
import { NOTHING_SEEN, type Seen } from './seen.ts'

/** The values of `n` from `base` on that belong to one flush; see `n` in db/migrations/0001_records.sql. */
export const SLOTS_PER_FLUSH = 2 ** 20

interface Inserted {
  /** How many rows were new. The identities of the others are already in the table, or occur earlier among these rows. */
  created: number
  epoch: number
  xid: string
}

/** The columns of many rows. They can be sent several times. */
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
    // Not json: json values cannot be compared, and PostgreSQL would validate the text even if it is only compared.
    data: new Column(packed, 'data', 'text'),
    dataBytes: new Column(packed, 'dataBase64', 'bytea'),
  }
}

/** The rows of `columns` as a table `sent`; `ordinal` counts them from 1. */
export const sent = (columns: Columns) => sql`unnest(
    ${columns.source}::text[], ${columns.id}::text[], ${columns.type}::text[], ${columns.subject}::text[],
    ${columns.time}::timestamptz[], ${columns.dataschema}::text[], ${columns.datacontenttype}::text[],
    ${columns.extensions}::jsonb[], ${columns.data}::text[], ${columns.dataBytes}::bytea[]
  ) WITH ORDINALITY AS sent (source, id, type, subject, "time", dataschema, datacontenttype, extensions, data, data_bytes, ordinal)`

/**
 * Stores the rows whose identity is new, in one statement. It looks up no row first: the unique constraint decides. Outside a
 * transaction the statement commits by itself, so a flush costs one round trip.
 * @param base `n` of the first row
 * @param seen the rows get positions after this one
 */
export async function insertRecords(
  db: Database,
  columns: Columns,
  base: number,
  seen: Seen = NOTHING_SEEN,
): Promise<Inserted> {
  const { rows } = await sql<{ created: number; epoch: number; xid: string }>`
    WITH flush AS MATERIALIZED (
      SELECT sluice.current_epoch(${seen.epoch}::integer, ${seen.xid}::xid8) AS epoch, ${synchronousTransaction}
    ), stored AS (
      INSERT INTO sluice.records
        (epoch, n, source, id, type, subject, "time", dataschema, datacontenttype, extensions, data, data_bytes)
      SELECT (SELECT epoch FROM flush), ${base}::bigint + ordinal - 1, source, id, type, subject, "time",
             dataschema, datacontenttype, extensions, data::json, data_bytes
      FROM ${sent(columns)}
      ON CONFLICT (source, id) DO NOTHING
      RETURNING 1
    )
    SELECT count(*)::integer AS created, (SELECT epoch FROM flush) AS epoch, pg_current_xact_id()::text AS xid FROM stored
  `.execute(db)
  return rows[0] as Inserted
}

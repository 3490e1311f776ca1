import { sql } from 'kysely'
import { type Columns, sent } from './insert-records.ts'
import type { Database } from './schema.ts'

export interface Comparison {
  /** Index among the rows that were sent. */
  index: number
  epoch: number
  xid: string
  n: string
  /** Is what is stored what was sent? */
  same: boolean
}

/**
 * What the table holds under the identities of rows that were just sent. What the server filled in is no part of the
 * comparison: the time when one side has none, the trace that a request brought along.
 * Payloads are the same when their text is, or else their meaning: a client may order its keys anew each time.
 *
 * What is found is acknowledged, and perhaps no standby has it: whoever waited for one to confirm the commit was ended, or
 * the server was, and then everyone sees the row (PostgreSQL manual, 26.2.8 Synchronous Replication). Where commits wait for
 * standbys, the statement therefore writes a mark to the log: its own commit comes after all that it saw, and waits.
 */
export async function compareRecords(db: Database, columns: Columns): Promise<Comparison[]> {
  const { rows } = await sql<Comparison>`
    WITH mark AS MATERIALIZED (
      SELECT CASE WHEN current_setting('synchronous_standby_names') <> ''
                  THEN pg_logical_emit_message(true, 'sluice', pg_current_xact_id()::text) END
    )
    SELECT (place - 1)::integer AS index, stored.epoch, stored.xid::text AS xid, stored.n::text AS n,
           stored.type = sent.type
           AND stored.subject IS NOT DISTINCT FROM sent.subject
           AND (stored."time" = sent."time") IS NOT FALSE
           AND stored.dataschema IS NOT DISTINCT FROM sent.dataschema
           AND stored.datacontenttype IS NOT DISTINCT FROM sent.datacontenttype
           AND coalesce(stored.extensions, '{}') - '{traceparent,tracestate}'::text[]
             = coalesce(sent.extensions, '{}') - '{traceparent,tracestate}'::text[]
           AND stored.data_bytes IS NOT DISTINCT FROM sent.data_bytes
           AND CASE WHEN stored.data IS NULL OR sent.data IS NULL THEN stored.data IS NULL AND sent.data IS NULL
                    WHEN stored.data::text = sent.data THEN true
                    ELSE stored.data::jsonb = sent.data::jsonb END AS same
    FROM ${sent(columns)}
    JOIN sluice.records AS stored USING (source, id)
    CROSS JOIN mark
    ORDER BY place
  `.execute(db)
  return rows
}

import { sql } from 'kysely'
import { type Columns, sent } from './insert-records.ts'
import type { Database } from './schema.ts'
import { synchronousTransaction } from './session.ts'

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
 * What the table holds under the identities of rows that were just sent. Everything that a client says is compared, but for
 * the trace: a request's header may have put it there, and a client that sends again has another one.
 * A time where none is stored is the same only if it is the time of receipt, which is what an export says.
 * Payloads are the same when their text is, or else their meaning: a client may order its keys anew each time. A text that
 * repeats a key has no meaning to compare, since jsonb keeps the last of the values alone. Neither has one that jsonb cannot
 * hold, such as "\u0000": we store none, but others can, and a comparison that fails would take its neighbours along, whose
 * rows are committed by then.
 *
 * What is found is acknowledged, and perhaps no standby has it: whoever waited for one to confirm the commit was ended, or
 * the server was, and then everyone sees the row (PostgreSQL manual, 26.2.8 Synchronous Replication). Where commits wait for
 * standbys, the statement therefore writes a mark to the log: its own commit comes after all that it saw, and waits.
 */
export async function compareRecords(db: Database, columns: Columns): Promise<Comparison[]> {
  const { rows } = await sql<Comparison>`
    WITH mark AS MATERIALIZED (
      SELECT CASE WHEN current_setting('synchronous_standby_names') <> ''
                  THEN pg_logical_emit_message(true, 'sluice', pg_current_xact_id()::text) END,
             ${synchronousTransaction}
    )
    SELECT (place - 1)::integer AS index, stored.epoch, stored.xid::text AS xid, stored.n::text AS n,
           stored.type = sent.type
           AND stored.subject IS NOT DISTINCT FROM sent.subject
           AND (stored."time" IS NOT DISTINCT FROM sent."time"
                OR stored."time" IS NULL AND sent."time" = stored.received_at)
           AND stored.dataschema IS NOT DISTINCT FROM sent.dataschema
           AND stored.datacontenttype IS NOT DISTINCT FROM sent.datacontenttype
           AND coalesce(stored.extensions, '{}') - '{traceparent,tracestate}'::text[]
             = coalesce(sent.extensions, '{}') - '{traceparent,tracestate}'::text[]
           AND stored.data_bytes IS NOT DISTINCT FROM sent.data_bytes
           AND CASE WHEN stored.data IS NULL OR sent.data IS NULL THEN stored.data IS NULL AND sent.data IS NULL
                    WHEN stored.data::text = sent.data THEN true
                    WHEN NOT pg_input_is_valid(stored.data::text, 'jsonb') THEN false
                    WHEN stored.data::jsonb <> sent.data::jsonb THEN false
                    ELSE stored.data IS JSON WITH UNIQUE KEYS AND sent.data IS JSON WITH UNIQUE KEYS END AS same
    FROM ${sent(columns)}
    JOIN sluice.records AS stored USING (source, id)
    CROSS JOIN mark
    ORDER BY place
  `.execute(db)
  return rows
}

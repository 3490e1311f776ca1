import { sql } from 'kysely'
import { synchronousTransaction } from '../postgres/session.ts'
import type { Database } from '../postgres/tables.ts'
import { type Columns, sent } from './insert-records.ts'

export interface Comparison {
  /** Index of the row among the rows that were sent. */
  index: number
  epoch: number
  xid: string
  n: string
  /** Whether the stored content equals the sent content. */
  same: boolean
}

/**
 * Compares rows that were just sent with the records stored under the same identities. Everything that the client sent is
 * compared, except the trace: it may come from a header of the request, and a retry has another one.
 * - A time must equal the time that a read shows, which is `received_at` if none was sent. Without a time, the client says nothing
 *   about it: a sender that leaves it to the server may resend the record after someone loaded it from an export, with its time.
 * - No datacontenttype means application/json (CloudEvents JSON format 1.0.2, section 3.1). A client that changes from binary to
 *   structured mode leaves it out.
 * - Payloads are equal if their text is equal or if their jsonb is: a client may order its keys differently each time. Only the
 *   text is compared if it repeats a key, because jsonb keeps only the last value, or if jsonb cannot store it, such as
 *   "\u0000". Sluice stores no such payloads, but other programs can. A comparison that raised an error would fail the whole
 *   statement, and with it rows that are already committed. In that text, line breaks equal spaces: an export writes each record
 *   on one line, and in JSON a line break is always white space.
 *
 * The records found here are acknowledged, although a standby may not have them: if the session that waited for the standby's
 * confirmation, or the server, was ended, the row becomes visible without it (PostgreSQL manual, 26.2.8 Synchronous
 * Replication). So if commits wait for standbys, the statement writes a message to the write-ahead log. Its own commit then comes
 * after everything that it saw, and waits for the standby.
 */
export async function compareRecords(db: Database, columns: Columns): Promise<Comparison[]> {
  const { rows } = await sql<Comparison>`
    WITH mark AS MATERIALIZED (
      SELECT CASE WHEN current_setting('synchronous_standby_names') <> ''
                  THEN pg_logical_emit_message(true, 'sluice', pg_current_xact_id()::text) END,
             ${synchronousTransaction}
    )
    SELECT (ordinal - 1)::integer AS index, stored.epoch, stored.xid::text AS xid, stored.n::text AS n,
           stored.type = sent.type
           AND stored.subject IS NOT DISTINCT FROM sent.subject
           AND (sent."time" IS NULL OR sent."time" = coalesce(stored."time", stored.received_at))
           AND stored.dataschema IS NOT DISTINCT FROM sent.dataschema
           AND coalesce(stored.datacontenttype, 'application/json') = coalesce(sent.datacontenttype, 'application/json')
           AND coalesce(stored.extensions, '{}') - '{traceparent,tracestate}'::text[]
             = coalesce(sent.extensions, '{}') - '{traceparent,tracestate}'::text[]
           AND stored.data_bytes IS NOT DISTINCT FROM sent.data_bytes
           AND CASE WHEN stored.data IS NULL OR sent.data IS NULL THEN stored.data IS NULL AND sent.data IS NULL
                    WHEN stored.data::text = sent.data THEN true
                    WHEN NOT pg_input_is_valid(stored.data::text, 'jsonb') THEN false
                    WHEN stored.data::jsonb <> sent.data::jsonb THEN false
                    WHEN stored.data IS JSON WITH UNIQUE KEYS AND sent.data IS JSON WITH UNIQUE KEYS THEN true
                    ELSE translate(stored.data::text, E'\\r\\n', '  ') = translate(sent.data, E'\\r\\n', '  ') END AS same
    FROM ${sent(columns)}
    JOIN sluice.records AS stored USING (source, id)
    CROSS JOIN mark
    ORDER BY ordinal
  `.execute(db)
  return rows
}

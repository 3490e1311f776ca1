import { type RawBuilder, sql } from 'kysely'
import { isSameMediaType } from '../lib/media-type.ts'
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
 * - A CloudEvent is the same in every mode. Headers are text, so extension attributes are equal if their canonical strings are
 *   (CloudEvents 1.0.2, section 3.1). Media types: see isSameMediaType.
 * - A time must equal the time that a read shows, which is `received_at` if none was sent. Without a time, the client says nothing
 *   about it: a sender that leaves it to the server may resend the record after someone loaded it from an export, with its time.
 * - Payloads are equal if their text is equal or if their jsonb is: a client may order its keys differently each time. Only the
 *   text is compared if it repeats a key, because jsonb keeps only the last value, or if jsonb cannot store it, such as
 *   "\u0000". Sluice stores no such payloads, but other programs can. A comparison that raised an error would fail the whole
 *   statement, and with it rows that are already committed. In that text, line breaks equal spaces: an export writes each record
 *   on one line, and in JSON a line break is always white space.
 * - The payload of an event may be JSON in one mode and bytes in another, or an empty body: see `bytes`.
 *
 * The records found here are acknowledged, although a standby may not have them: if the session that waited for the standby's
 * confirmation, or the server, was ended, the row becomes visible without it (PostgreSQL manual, 26.2.8 Synchronous
 * Replication). So if commits wait for standbys, the statement writes a message to the write-ahead log. Its own commit then comes
 * after everything that it saw, and waits for the standby.
 */
export async function compareRecords(db: Database, columns: Columns): Promise<Comparison[]> {
  const { rows } = await sql<Comparison & { media_types: string | null }>`
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
           AND CASE WHEN ${extensions('stored')} = ${extensions('sent')} THEN true
                    ELSE ${canonical(extensions('stored'))} = ${canonical(extensions('sent'))} END
           AND CASE WHEN stored.data::text = sent.data THEN true
                    WHEN NOT pg_input_is_valid(stored.data::text, 'jsonb') THEN false
                    WHEN stored.data IS NULL OR sent.data IS NULL THEN ${bytes('stored')} = ${bytes('sent')}
                    WHEN stored.data::jsonb <> sent.data::jsonb THEN false
                    WHEN stored.data IS JSON WITH UNIQUE KEYS AND sent.data IS JSON WITH UNIQUE KEYS THEN true
                    ELSE translate(stored.data::text, E'\\r\\n', '  ') = translate(sent.data, E'\\r\\n', '  ') END AS same,
           CASE WHEN stored.datacontenttype IS DISTINCT FROM sent.datacontenttype
                THEN json_build_array(stored.datacontenttype, sent.datacontenttype)::text END AS media_types
    FROM ${sent(columns)}
    JOIN sluice.records AS stored USING (source, id)
    CROSS JOIN mark
    ORDER BY ordinal
  `.execute(db)
  for (const row of rows) row.same &&= areSameMediaTypes(row.media_types)
  return rows
}

/** @param json an array of two media types; null: they are equal */
function areSameMediaTypes(json: string | null): boolean {
  if (json === null) return true
  const [stored, sent] = JSON.parse(json) as [string | null, string | null]
  return isSameMediaType(stored, sent)
}

type Side = 'stored' | 'sent'

const extensions = (side: Side) =>
  sql`(coalesce(${sql.ref(`${side}.extensions`)}, '{}') - '{traceparent,tracestate}'::text[])`

/** The values as text: an integer or a boolean is in a header what jsonb_each_text makes of it. */
const canonical = (attributes: RawBuilder<unknown>) =>
  sql`(SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each_text(${attributes}))`

/**
 * The payload as the body of a request in binary mode: JSON as its text, a string as itself if the media type is not JSON, and
 * no data, or null that is not JSON, as an empty body. White space around JSON bytes is removed, because it never gets into `data`.
 */
const bytes = (side: Side) => {
  const [data, dataBytes, mediaType] = ['data', 'data_bytes', 'datacontenttype'].map((name) =>
    sql.ref(`${side}.${name}`),
  )
  const isJson = sql`coalesce(${mediaType} ~* '^[^/;]+/([^;]+[+])?json[[:space:]]*(;|$)', true)`
  return sql`CASE WHEN ${data} IS NULL AND ${isJson} THEN btrim(coalesce(${dataBytes}, ''), '\\x20090a0d')
                  WHEN ${data} IS NULL THEN coalesce(${dataBytes}, '')
                  WHEN ${isJson} THEN convert_to(${data}::text, 'UTF8')
                  ELSE convert_to(coalesce(${data}::json #>> '{}', ''), 'UTF8') END`
}

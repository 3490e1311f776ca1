import { sql } from 'kysely'
import type { Database } from './schema.ts'

export interface StorageSize {
  /** Files of the database, in bytes. */
  files: number
  /** What the write-ahead log takes, or may take at any moment. */
  wal: number
}

/**
 * The database's files, and room for the write-ahead log: it may grow to max_wal_size at any moment, and beyond it
 * while a checkpoint lags, by what was written since the last one. All by functions that everybody may call: to look
 * into the folder of the log takes pg_monitor, which would show the API every session's statements as well.
 */
export async function selectStorageSize(db: Database): Promise<StorageSize> {
  const { rows } = await sql<Record<keyof StorageSize, string>>`
    SELECT pg_database_size(current_database())::text AS files,
           greatest(pg_size_bytes(current_setting('max_wal_size')),
                    pg_wal_lsn_diff(pg_current_wal_insert_lsn(), redo_lsn))::bigint::text AS wal
    FROM pg_control_checkpoint()`.execute(db)
  const { files, wal } = rows[0] as Record<keyof StorageSize, string>
  return { files: Number(files), wal: Number(wal) }
}

/** Pages that are looked at to learn how full all are: 16 MiB, whatever the size of the table. */
const SAMPLED_PAGES = 2000

/**
 * How full the pages of a table are before it takes new ones, at worst: rows are at most a quarter of a page, and of
 * ones of just over a fifth four fit. Counted so, a table that nothing was removed from has no free space.
 */
const FULL = 0.8

/**
 * What a larger value takes, which lies apart, in pieces of 1,996 bytes of which four fill a page: by each of its ends,
 * or on each page, room for one may be lost.
 */
const APART = sql`least(payload * 1.37, payload * 1.03 + 2032)`

/**
 * Space inside the files of the records that PostgreSQL will use again: DELETE and VACUUM leave the files as long as
 * they were. An estimate, from what the live rows on a sample of the pages take, that leaves out the indexes, and what is
 * dead but not vacuumed yet. The free space map itself would be exact, but only an extension shows it (pg_freespacemap),
 * which a superuser has to create, also before a dump can be restored; a table's owner and managed servers have none.
 */
export async function selectReusableBytes(db: Database): Promise<number> {
  const { rows } = await sql<{ reusable: string }>`
    WITH files AS MATERIALIZED (
      SELECT oid, reltoastrelid, pg_relation_size(oid)::float8 AS heap, pg_relation_size(reltoastrelid)::float8 AS toast,
             least(1, ${SAMPLED_PAGES} * current_setting('block_size')::float8 / greatest(pg_relation_size(oid), 1)) AS share
      FROM pg_class WHERE oid = 'sluice.records'::regclass
    ), live AS (
      SELECT count(*) AS rows, coalesce(sum(inside + CASE WHEN apart THEN 18 ELSE payload END), 0) AS heap,
             coalesce(sum(${APART}) FILTER (WHERE apart), 0) AS toast
      FROM (
        -- 72: the header of a row, its place in the page's directory, and the columns of fixed size.
        SELECT 72 + pg_column_size(source) + pg_column_size(id) + pg_column_size(type)
                  + coalesce(pg_column_size(subject), 0) + coalesce(pg_column_size(dataschema), 0)
                  + coalesce(pg_column_size(datacontenttype), 0) + coalesce(pg_column_size(extensions), 0) AS inside,
               coalesce(pg_column_size(data), pg_column_size(data_bytes), 0) AS payload,
               coalesce(pg_column_toast_chunk_id(data), pg_column_toast_chunk_id(data_bytes)) IS NOT NULL AS apart
        FROM sluice.records TABLESAMPLE SYSTEM ((SELECT share * 100 FROM files))
      ) AS sampled
    )
    SELECT round(
      greatest(0, files.heap - live.heap / share / ${FULL}
                  - pg_stat_get_dead_tuples(oid) * live.heap / greatest(live.rows, 1))
      + greatest(0, files.toast - live.toast / share - pg_stat_get_dead_tuples(reltoastrelid) * 2032)
    )::bigint::text AS reusable
    FROM files, live`.execute(db)
  return Number(rows[0]?.reusable)
}

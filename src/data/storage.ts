import { sql } from 'kysely'
import type { Database } from '../postgres/tables.ts'

interface StorageSize {
  /** Size of the database files in bytes. */
  files: number
  /** The size in bytes to which the write-ahead log may grow at any moment. */
  wal: number
}

/**
 * The size of the database files, and the space that the write-ahead log may need. The log may grow to max_wal_size at any
 * moment, and beyond it while a checkpoint lags: then it is as large as what was written since the last one. All functions used
 * here are available to every role. Reading the folder of the log would need pg_monitor, which also shows the statements of all
 * sessions.
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

/** The number of pages in the sample: 16 MiB, whatever the size of the table. */
const SAMPLED_PAGES = 2000

/**
 * Minimum fill level of pages without deleted rows. A row takes at most a quarter of a page, and of rows that take just over a
 * fifth, four fit. With this factor, a table from which nothing was deleted has no free space.
 */
const FULL = 0.8

/**
 * The space of a large value in the TOAST table. It is stored in chunks of 1,996 bytes, four of which fill a page. Each value, or
 * each page, can waste the space of one chunk.
 */
const TOASTED = sql`least(payload * 1.37, payload * 1.03 + 2032)`

/**
 * The space inside the files of `records` that PostgreSQL will reuse: DELETE and VACUUM do not shorten files. It is an estimate
 * from the size of the live rows on a sample of pages. It leaves out the indexes, and rows that are dead but not vacuumed yet.
 * The free space map would be exact, but only the extension pg_freespacemap shows it. A superuser must create that extension,
 * and must create it again before a dump is restored. Managed servers offer no superuser.
 */
export async function selectReusableBytes(db: Database): Promise<number> {
  const { rows } = await sql<{ reusable: string }>`
    WITH files AS MATERIALIZED (
      SELECT oid, reltoastrelid, pg_relation_size(oid)::float8 AS heap, pg_relation_size(reltoastrelid)::float8 AS toast,
             least(1, ${SAMPLED_PAGES} * current_setting('block_size')::float8 / greatest(pg_relation_size(oid), 1)) AS share
      FROM pg_class WHERE oid = 'sluice.records'::regclass
    ), live AS (
      SELECT count(*) AS rows, coalesce(sum(inside + CASE WHEN toasted THEN 18 ELSE payload END), 0) AS heap,
             coalesce(sum(${TOASTED}) FILTER (WHERE toasted), 0) AS toast
      FROM (
        -- 72: the header of the row, its entry in the page directory, and the columns of fixed size.
        SELECT 72 + pg_column_size(source) + pg_column_size(id) + pg_column_size(type)
                  + coalesce(pg_column_size(subject), 0) + coalesce(pg_column_size(dataschema), 0)
                  + coalesce(pg_column_size(datacontenttype), 0) + coalesce(pg_column_size(extensions), 0) AS inside,
               coalesce(pg_column_size(data), pg_column_size(data_bytes), 0) AS payload,
               coalesce(pg_column_toast_chunk_id(data), pg_column_toast_chunk_id(data_bytes)) IS NOT NULL AS toasted
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

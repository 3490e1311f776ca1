import { sql } from 'kysely'
import type { Database } from '../postgres/tables.ts'

/** A transaction that could still add a record. The feed shows no record after it until it ends. */
export interface FeedHolder {
  xid: string
  /** The process id of its session; null if it is prepared (PREPARE TRANSACTION), because then it has no session. */
  pid: number | null
  /** The name of a prepared transaction. */
  gid: string | null
  database: string
  user: string | null
  application: string | null
  /** As in pg_stat_activity, or `prepared`, or `unknown` if the role may not see it. */
  state: string
  /** Since the transaction began, or was prepared; null if the role may not see it. */
  seconds: number | null
}

/**
 * The transaction at which the feed ends, by the rule of OLDEST_RUNNING (listing.ts): the oldest one with a transaction id that
 * does not run in another database. It does not matter whether a record is behind it. A prepared transaction counts in whichever
 * database it is, because the feed waits for it.
 *
 * pg_snapshot_xip() lists the running transactions that are older than one that has ended. xmax is the next one.
 *
 * pg_stat_activity hides `state` and `xact_start` of other roles' sessions from a role without pg_read_all_stats, which would also
 * show the statements of all sessions. It shows the other columns, and pg_prepared_xacts all of them, to every role. None of
 * these views locks the table of records.
 *
 * @returns undefined if there is no such transaction
 */
export async function selectFeedHolder(db: Database): Promise<FeedHolder | undefined> {
  const { rows } = await sql<FeedHolder>`
    SELECT running.xid::text, pid, gid, coalesce(datname, prepared.database) AS database, coalesce(usename, owner) AS user,
           application_name AS application, CASE WHEN gid IS NULL THEN coalesce(state, 'unknown') ELSE 'prepared' END AS state,
           extract(epoch FROM clock_timestamp() - coalesce(xact_start, prepared.prepared))::float8 AS seconds
    FROM (
      SELECT pg_snapshot_xip(pg_current_snapshot()) UNION ALL SELECT pg_snapshot_xmax(pg_current_snapshot())
    ) AS running (xid)
    LEFT JOIN pg_stat_activity ON backend_xid = running.xid::xid
    LEFT JOIN pg_prepared_xacts AS prepared ON transaction = running.xid::xid
    WHERE datname = current_database() OR gid IS NOT NULL
    ORDER BY running.xid LIMIT 1`.execute(db)
  return rows[0]
}

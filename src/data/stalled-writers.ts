import { sql } from 'kysely'
import type { Database } from '../postgres/tables.ts'

/** The application_name of the connections that write records. */
export const WRITERS = 'sluice-write'

/**
 * Terminates the sessions of writers that have kept PostgreSQL waiting too long, during a statement or between two. Their machine
 * has disappeared or is frozen, and each open transaction stops the feed for all readers until TCP gives up. A writer that is only
 * slow sends its records again.
 *
 * PostgreSQL has no setting for this. During a COPY, a session is not idle in a transaction, and while it waits for the next
 * message, neither statement_timeout nor transaction_timeout applies (ProcessClientReadInterrupt in tcop/postgres.c). Between two
 * statements, idle_in_transaction_session_timeout applies, but not while the next statement is arriving (postgres/bind.ts). On a
 * slow network that can take a while, and it looks the same as a stall.
 *
 * A session that waits for a lock, the disk or a standby does not wait for its client, and is left alone.
 *
 * An application_name in DATABASE_URL overrides the name on all connections, also on this one. So the current name counts as
 * well.
 *
 * @param db connected as the role that writes
 * @param seconds `during` a statement: since the transaction began. `between` two: since the last statement ended
 * @returns the process ids of the sessions that were terminated
 */
export async function endStalledWriters(db: Database, seconds: { during: number; between: number }): Promise<number[]> {
  // pg_terminate_backend is in the select list, because PostgreSQL may evaluate conditions in any order.
  const { rows } = await sql<{ pid: number; ended: boolean }>`
    SELECT pid, pg_terminate_backend(pid) AS ended FROM pg_stat_activity
    WHERE application_name IN (${WRITERS}, current_setting('application_name')) AND usename = current_user AND datname = current_database()
      AND backend_xid IS NOT NULL AND wait_event = 'ClientRead' AND CASE state
        WHEN 'active'              THEN xact_start   < clock_timestamp() - make_interval(secs => ${seconds.during})
        WHEN 'idle in transaction' THEN state_change < clock_timestamp() - make_interval(secs => ${seconds.between})
      END
  `.execute(db)
  return rows.filter(({ ended }) => ended).map(({ pid }) => pid)
}

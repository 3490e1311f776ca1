import { sql } from 'kysely'
import type { Database } from './schema.ts'

/** The application_name of the connections that write records. */
export const WRITERS = 'sluice-write'

/**
 * Ends the transactions of writers that PostgreSQL has waited for, amid a statement or between two, for so long. Their machine is gone, or
 * frozen, and each holds up the lists of all readers until TCP gives up; if it is only slow, it sends its records again.
 *
 * PostgreSQL has no setting for it: amid a COPY a session is not idle in a transaction, and while it waits for the next piece,
 * it obeys neither statement_timeout nor transaction_timeout (ProcessClientReadInterrupt in tcop/postgres.c).
 * Between two statements idle_in_transaction_session_timeout does it, but not while the next one comes in (bind.ts). That may
 * take a while on a slow network, and cannot be told from silence.
 *
 * What waits for a lock, the disk or a standby does not wait for its client, and is left alone.
 *
 * An application_name in DATABASE_URL takes the place of ours on all connections, so on this one too: then that name counts.
 *
 * @param db as the role that writes
 * @param seconds since the transaction began, amid a statement; and since the last statement ended, between two
 * @returns the process ids of those that were ended
 */
export async function endSilentWriters(db: Database, seconds: { amid: number; between: number }): Promise<number[]> {
  // Ended in the select list: conditions may be looked at in any order.
  const { rows } = await sql<{ pid: number; ended: boolean }>`
    SELECT pid, pg_terminate_backend(pid) AS ended FROM pg_stat_activity
    WHERE application_name IN (${WRITERS}, current_setting('application_name')) AND usename = current_user AND datname = current_database()
      AND backend_xid IS NOT NULL AND wait_event = 'ClientRead' AND CASE state
        WHEN 'active'              THEN xact_start   < clock_timestamp() - make_interval(secs => ${seconds.amid})
        WHEN 'idle in transaction' THEN state_change < clock_timestamp() - make_interval(secs => ${seconds.between})
      END
  `.execute(db)
  return rows.filter(({ ended }) => ended).map(({ pid }) => pid)
}

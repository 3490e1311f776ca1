import { setTimeout as sleep } from 'node:timers/promises'
import { type RawBuilder, sql } from 'kysely'
import { sqlstateOf } from '../postgres/sqlstate.ts'
import type { Database } from '../postgres/tables.ts'

/** How often to check whether the VACUUM blocks another session. */
const CHECK_MS = 200

/**
 * Makes the space of deleted records available for new ones. DELETE alone does not, and autovacuum waits until a fifth of the
 * table is dead (autovacuum_vacuum_scale_factor).
 * @param session the connection that runs the VACUUM
 * @param db      provides another connection, which cancels the VACUUM if another session waits for the table, or on `stop`. A
 *                migration that waited for the VACUUM would block all writes behind it. Autovacuum yields in the same way
 * @returns false if it yielded; the next VACUUM does the rest
 */
export async function vacuumRecords(session: Database, db: Database, stop: AbortSignal): Promise<boolean> {
  // The pace of autovacuum. A manual VACUUM does not use the settings of autovacuum and runs at full speed by default.
  await sql`SET vacuum_cost_delay = '2ms'`.execute(session)
  await sql`SET statement_timeout = 0`.execute(session)
  const { rows } = await sql<{ pid: number }>`SELECT pg_backend_pid() AS pid`.execute(session)
  const over = new AbortController()
  const vacuum = sql`VACUUM (${OPTIONS}) sluice.records`.execute(session).finally(() => over.abort())
  try {
    await Promise.all([vacuum, watch(db, rows[0]?.pid as number, over.signal, stop)])
    return true
  } catch (error) {
    if (YIELDED.includes(sqlstateOf(error) ?? '')) return false
    throw error
  } finally {
    // The statement must have ended before the caller uses the session again.
    await vacuum.catch(() => {})
  }
}

/**
 * TRUNCATE would give the end of the file back to the disk, but takes a lock that blocks readers. PARALLEL would use more than
 * one processor.
 */
const OPTIONS: RawBuilder<unknown> = sql`TRUNCATE false, PARALLEL 0`

/** Cancelled, or the lock was not available because an autovacuum of the table or a migration holds it. */
const YIELDED = ['57014', '55P03']

async function watch(db: Database, pid: number, over: AbortSignal, stop: AbortSignal): Promise<void> {
  while (!over.aborted) {
    // Repeated, even after `stop`: a cancellation that arrives before the VACUUM has begun has no effect.
    const wake = stop.aborted ? over : AbortSignal.any([over, stop])
    await sleep(CHECK_MS, undefined, { signal: wake }).catch(() => {})
    if (!over.aborted) {
      await sql`
        SELECT pg_cancel_backend(${pid}::integer) WHERE ${stop.aborted} OR EXISTS (
          SELECT FROM pg_locks WHERE NOT granted AND pid <> ${pid}::integer AND relation = 'sluice.records'::regclass
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
      `.execute(db)
    }
  }
}

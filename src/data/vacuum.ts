import { setTimeout as sleep } from 'node:timers/promises'
import { type RawBuilder, sql } from 'kysely'
import type { Database } from './schema.ts'
import { sqlstateOf } from './sqlstate.ts'

/** How often is looked whether the VACUUM is in somebody's way. */
const LOOK_MS = 200

/**
 * Makes the space of removed records free for new ones. DELETE alone does not, and autovacuum waits until a fifth of the
 * table is dead (autovacuum_vacuum_scale_factor).
 * @param session the connection that it runs on
 * @param db      has another one, which ends it when somebody waits for the table, or when it is to stop: a migration that
 *                waited for it would hold up all records behind it. Autovacuum gives way like this as well
 * @returns false when it gave way; what it had not come to is left to the next one
 */
export async function vacuumRecords(session: Database, db: Database, stop: AbortSignal): Promise<boolean> {
  // The pace of autovacuum. Its own settings do not count for a VACUUM that is asked for, whose default is full speed.
  await sql`SET vacuum_cost_delay = '2ms'`.execute(session)
  await sql`SET statement_timeout = 0`.execute(session)
  const { rows } = await sql<{ pid: number }>`SELECT pg_backend_pid() AS pid`.execute(session)
  const over = new AbortController()
  const vacuum = sql`VACUUM (${OPTIONS}) sluice.records`.execute(session).finally(() => over.abort())
  try {
    await Promise.all([vacuum, watch(db, rows[0]?.pid as number, over.signal, stop)])
    return true
  } catch (error) {
    if (GAVE_WAY.includes(sqlstateOf(error) as string)) return false
    throw error
  } finally {
    // Nothing may be under way on the session when it goes back.
    await vacuum.catch(() => {})
  }
}

/**
 * TRUNCATE would give the end of the file back to the disk, under a lock that lets nobody read. PARALLEL would take more
 * than one processor.
 */
const OPTIONS: RawBuilder<unknown> = sql`TRUNCATE false, PARALLEL 0`

/** Cancelled; or the lock was not to be had, which an autovacuum of the same table has, or a migration. */
const GAVE_WAY = ['57014', '55P03']

async function watch(db: Database, pid: number, over: AbortSignal, stop: AbortSignal): Promise<void> {
  while (!over.aborted) {
    // Again and again, also when it is to stop: a cancellation that comes before the VACUUM has begun is forgotten.
    const wake = stop.aborted ? over : AbortSignal.any([over, stop])
    await sleep(LOOK_MS, undefined, { signal: wake }).catch(() => {})
    if (!over.aborted) {
      await sql`
        SELECT pg_cancel_backend(${pid}::integer) WHERE ${stop.aborted} OR EXISTS (
          SELECT FROM pg_locks WHERE NOT granted AND pid <> ${pid}::integer AND relation = 'sluice.records'::regclass
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
      `.execute(db)
    }
  }
}

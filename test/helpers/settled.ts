import { sql } from 'kysely'
import { connect } from './connect.ts'
import type { TestDatabase } from './postgres.ts'

/**
 * Resolves when a list upwards shows all that is stored. It ends where a transaction is still open, in whatever database
 * of the server: those of other tests, too.
 */
export async function settled({ superUrl }: TestDatabase): Promise<void> {
  const db = connect(superUrl)
  try {
    for (let done: boolean | undefined = false; done !== true; ) {
      const { rows } = await sql<{ done: boolean }>`
        SELECT coalesce(max(xid) < pg_snapshot_xmin(pg_current_snapshot()), true) AS done
        FROM sluice.records WHERE epoch = (SELECT max(epoch) FROM sluice.epochs)`.execute(db)
      done = rows[0]?.done
    }
  } finally {
    await db.destroy()
  }
}

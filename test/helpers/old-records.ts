import { type Kysely, sql } from 'kysely'

/**
 * Makes all stored records old, as the migration that adds the rollups does: the part `backfill` counts them, and `live` only those
 * that come later.
 */
export async function makeOld(root: Kysely<unknown>): Promise<void> {
  for (const [part, prefix] of [
    ['live', ''],
    ['backfill', 'until_'],
  ] as const)
    await sql`
      UPDATE sluice.rollup_progress SET (${sql.raw(`${prefix}epoch, ${prefix}xid, ${prefix}n`)}) = (
        SELECT epoch, xid, n FROM (SELECT epoch, xid, n FROM sluice.records UNION ALL SELECT 0, '0', 0) AS all_records
        ORDER BY epoch DESC, xid DESC, n DESC LIMIT 1
      ) WHERE part = ${part}`.execute(root)
}

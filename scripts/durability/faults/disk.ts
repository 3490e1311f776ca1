import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import { withConnection } from '../../../src/commands/database.ts'
import { sqlstateOf } from '../../../src/postgres/sqlstate.ts'
import { fillDisk, openOnSmallDisk } from '../disk.ts'
import type { Fault } from '../fault.ts'
import type { Postgres } from '../postgres.ts'

/**
 * Far longer than recovery takes with so little data. If recovery fails because the disk is full, PostgreSQL 18 may wait for its other
 * processes forever: it accepts no connections and does not end.
 */
const RECOVERY_MS = 6_000

/** Faults of the disk. */
export const DISK_FAULTS: Fault[] = [
  {
    name: 'disk-full',
    title: 'disk full (a tmpfs of 256 MiB) for 5 s, PostgreSQL started again if it ended',
    quickTitle: 'disk full (a tmpfs of 256 MiB) for 2 s, PostgreSQL started again if it ended',
    open: openOnSmallDisk,
    async apply({ postgres, resumed }, quick) {
      const begin = performance.now()
      // Next to the data folder, so on the same file system, but where recovery does not see it.
      const free = await fillDisk(postgres.home.cluster)
      const effect = await storeUntilFull(postgres)
      await sleep(Math.max(0, begin + (quick ? 2_000 : 5_000) - performance.now()))
      await free()
      const hung = !(await acceptsConnections(postgres))
      if (hung) await postgres.kill().catch(() => {})
      await postgres.start()
      await resumed()
      return hung ? `${effect}; PostgreSQL was killed, because it hung for ${RECOVERY_MS / 1000} s` : effect
    },
  },
  {
    name: 'disk-full-simulated',
    title: 'disk full (simulated: every insert fails with 53100) for 5 s',
    quickTitle: 'disk full (simulated: every insert fails with 53100) for 1 s',
    async apply({ postgres, resumed }, quick) {
      await withConnection(postgres.superUrl, async (db) => {
        await sql`
          CREATE OR REPLACE FUNCTION public.disk_full() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = '53100'; END $$`.execute(db)
        await sql`
          CREATE TRIGGER disk_full BEFORE INSERT ON sluice.records
          FOR EACH STATEMENT EXECUTE FUNCTION public.disk_full()`.execute(db)
        await sleep(quick ? 1_000 : 5_000)
        await sql`DROP FUNCTION public.disk_full() CASCADE`.execute(db)
      })
      await resumed()
      return undefined
    },
  },
]

/** Writes until PostgreSQL reports a full disk or ends. @returns a note that says which */
async function storeUntilFull(postgres: Postgres): Promise<string> {
  try {
    return await withConnection(postgres.superUrl, async (db) => {
      await sql`CREATE TABLE public.ballast AS SELECT repeat('x', 1000) FROM generate_series(1, 100000)`.execute(db)
      return 'the disk was not full'
    })
  } catch (error) {
    return sqlstateOf(error) === '53100' ? 'inserts failed with 53100' : 'PostgreSQL ended'
  }
}

async function acceptsConnections(postgres: Postgres): Promise<boolean> {
  for (const deadline = Date.now() + RECOVERY_MS; Date.now() < deadline; await sleep(50)) {
    try {
      await withConnection(postgres.superUrl, (db) => sql`SELECT 1`.execute(db))
      return true
    } catch {
      // Not yet: try again.
    }
  }
  return false
}

import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import { withConnection } from '../../../src/commands/database.ts'
import { sqlstateOf } from '../../../src/data/sqlstate.ts'
import { fillDisk, openOnSmallDisk } from '../disk.ts'
import type { Fault } from '../fault.ts'
import type { Postgres } from '../postgres.ts'

/**
 * Far longer than it takes to recover from so little. When its recovery finds the disk full and ends of it, PostgreSQL 18 can
 * wait for its other processes for ever, without a connection and without an end.
 */
const RECOVERY_MS = 6_000

/** PostgreSQL has no room. */
export const DISK_FAULTS: Fault[] = [
  {
    name: 'disk-full',
    title: 'disk full (a tmpfs of 256 MiB) for 5 s, PostgreSQL started again if it ended',
    quickTitle: 'disk full (a tmpfs of 256 MiB) for 2 s, PostgreSQL started again if it ended',
    open: openOnSmallDisk,
    async inflict({ postgres, back }, quick) {
      const begin = performance.now()
      // Beside the data: on the same file system, and not in the way of recovery.
      const free = await fillDisk(postgres.home.cluster)
      const seen = await storeInVain(postgres)
      await sleep(Math.max(0, begin + (quick ? 2_000 : 5_000) - performance.now()))
      await free()
      const hung = !(await answers(postgres))
      if (hung) await postgres.kill().catch(() => {})
      await postgres.start()
      await back()
      return hung ? `${seen}; it was killed, since it was not back in ${RECOVERY_MS / 1000} s` : seen
    },
  },
  {
    name: 'disk-full-simulated',
    title: 'disk full (simulated: every insert fails with 53100) for 5 s',
    quickTitle: 'disk full (simulated: every insert fails with 53100) for 1 s',
    async inflict({ postgres, back }, quick) {
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
      await back()
      return undefined
    },
  },
]

/** Until PostgreSQL says that its disk is full, or ends of it. @returns which */
async function storeInVain(postgres: Postgres): Promise<string> {
  try {
    return await withConnection(postgres.superUrl, async (db) => {
      await sql`CREATE TABLE public.ballast AS SELECT repeat('x', 1000) FROM generate_series(1, 100000)`.execute(db)
      return 'it was not full'
    })
  } catch (error) {
    return sqlstateOf(error) === '53100' ? 'inserts failed with 53100' : 'PostgreSQL ended of it'
  }
}

async function answers(postgres: Postgres): Promise<boolean> {
  for (const giveUp = Date.now() + RECOVERY_MS; Date.now() < giveUp; await sleep(50)) {
    try {
      await withConnection(postgres.superUrl, (db) => sql`SELECT 1`.execute(db))
      return true
    } catch {
      // Not yet.
    }
  }
  return false
}

import t, { type Test } from 'tap'
import type { Fault } from '../../scripts/durability/fault.ts'
import { openPostgres, type Postgres } from '../../scripts/durability/postgres.ts'
import { complaintsOf, runFault } from '../../scripts/durability/run.ts'
import { stopServers } from '../../scripts/durability/server.ts'
import { FAST, ownFolder } from './own-server.ts'

/** A few seconds each; this is for a machine that is busy. */
const LONGEST_MS = 300_000

/**
 * Inflicts the short form of each fault on processes of this test's own, and asserts that the bar is met.
 * @param open makes the PostgreSQL
 */
export async function keepsPromises(
  faults: readonly Fault[],
  open: (folder: string, settings: Record<string, string>) => Promise<Postgres> = openPostgres,
): Promise<void> {
  t.setTimeout(faults.length * LONGEST_MS)
  const folder = await ownFolder(t)
  const postgres = await open(folder, FAST)
  t.teardown(() => postgres.close())
  t.teardown(() => stopServers())
  for (const fault of faults) {
    const name = `${fault.quickTitle}: nothing is lost, doubled or answered wrongly`
    await t.test(name, { timeout: LONGEST_MS }, (t) => keeps(t, fault, postgres, folder))
  }
}

async function keeps(t: Test, fault: Fault, postgres: Postgres, folder: string): Promise<void> {
  const result = await runFault(fault, { postgres, folder, quick: true })
  t.same(complaintsOf(result), [], 'the bar is met', { result })
  t.equal(
    result.stored >= result.acknowledged,
    true,
    `${result.stored} are stored, ${result.acknowledged} acknowledged`,
  )
  if (fault.errors !== undefined) t.ok(result.errors > 0, `${result.errors} requests failed, as they had to`)
}

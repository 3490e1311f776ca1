import t, { type Test } from 'tap'
import type { Fault } from '../../scripts/durability/fault.ts'
import { openPostgres, type Postgres } from '../../scripts/durability/postgres.ts'
import { complaintsOf, runFault } from '../../scripts/durability/run.ts'
import { stopServers } from '../../scripts/durability/server.ts'
import { FAST, ownFolder } from './own-server.ts'

/** A fault takes a few seconds, and much longer on a busy machine. */
const MAX_MS = 300_000

/**
 * Runs the short form of each fault with its own processes, and asserts that Sluice keeps its promises.
 * @param open starts PostgreSQL
 */
export async function testFaults(
  faults: readonly Fault[],
  open: (folder: string, settings: Record<string, string>) => Promise<Postgres> = openPostgres,
): Promise<void> {
  t.setTimeout(faults.length * MAX_MS)
  const folder = await ownFolder(t)
  const postgres = await open(folder, FAST)
  t.teardown(() => postgres.close())
  t.teardown(() => stopServers())
  for (const fault of faults) {
    const name = `${fault.quickTitle}: no record is lost or doubled, and no response is wrong`
    await t.test(name, { timeout: MAX_MS }, (t) => testFault(t, fault, postgres, folder))
  }
}

async function testFault(t: Test, fault: Fault, postgres: Postgres, folder: string): Promise<void> {
  const result = await runFault(fault, { postgres, folder, quick: true })
  t.same(complaintsOf(result), [], 'the promises are kept', { result })
  t.equal(
    result.stored >= result.acknowledged,
    true,
    `${result.stored} are stored, ${result.acknowledged} acknowledged`,
  )
  if (fault.errors !== undefined) t.ok(result.errors > 0, `${result.errors} requests failed, as expected`)
}

import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import { withConnection } from '../../../src/commands/database.ts'
import type { Database } from '../../../src/postgres/tables.ts'
import type { ModelFault } from './faults.ts'
import type { History } from './history.ts'
import type { Random } from './random.ts'
import type { Scene } from './scene.ts'

/** While clients send, a working timeout cancels a statement within this time, even if PostgreSQL is unavailable for a while. */
const EFFECT_MS = 10_000
/** Longer than the timeouts, but short, so that a lock often falls between an INSERT and its comparison. */
const LOCK_MS = 300

/** Faults that an administrator or another client of PostgreSQL causes for the statements of the API. */
export const BACKENDS: ModelFault[] = [
  {
    name: 'pg_cancel_backend',
    apply: (scene, random) =>
      repeat(scene, random, (db) => sql`SELECT pg_cancel_backend(pid) ${randomWriter}`.execute(db)),
  },
  {
    name: 'pg_terminate_backend',
    apply: (scene, random) =>
      repeat(scene, random, (db) => sql`SELECT pg_terminate_backend(pid) ${randomWriter}`.execute(db)),
  },
  {
    name: 'LOCK TABLE',
    apply: ({ postgres }, random) => lock(postgres.superUrl, random, 4000),
  },
  smallTimeout('statement_timeout'),
  smallTimeout('lock_timeout'),
]

/** A random writer. Writers that are running a statement have precedence. */
const randomWriter = sql`
  FROM (SELECT pid FROM pg_stat_activity WHERE application_name = 'sluice-write'
        ORDER BY state = 'active' DESC, random() LIMIT 1) AS busy`

async function repeat({ postgres }: Scene, random: Random, act: (db: Database) => Promise<unknown>): Promise<void> {
  await withConnection(postgres.superUrl, async (db) => {
    for (let left = random.int(5, 40); left > 0; left--) {
      await act(db)
      await sleep(random.int(0, 30))
    }
  })
}

/** Locks the table, so that writers wait, and in the stronger mode readers as well. */
async function lock(url: string, random: Random, longestMs: number): Promise<void> {
  const mode = random.pick(['SHARE', 'ACCESS EXCLUSIVE'])
  const milliseconds = random.int(10, longestMs)
  await withConnection(url, (db) =>
    db.transaction().execute(async (trx) => {
      await sql`LOCK TABLE sluice.records IN ${sql.raw(mode)} MODE`.execute(trx)
      await sleep(milliseconds)
    }),
  )
}

/** The timeout can cancel any statement: an INSERT, a COPY, or the comparison after a committed INSERT. */
function smallTimeout(name: string): ModelFault {
  const fault = `a small ${name}, and LOCK TABLE`
  async function apply(scene: Scene, random: Random, { timeouts }: History, stop: AbortSignal): Promise<void> {
    const { network, applySetting, postgres } = scene
    const [begin, before] = [performance.now(), network.timeouts]
    const [end, deadline] = [begin + random.int(500, 2500), begin + EFFECT_MS]
    const hits = () => network.timeouts - before
    const needsEffect = () => hits() === 0 && !stop.aborted && performance.now() < deadline
    try {
      await applySetting({ name, value: `${random.int(3, 60)}ms` })
      while (performance.now() < end || needsEffect()) {
        await lock(postgres.superUrl, random, LOCK_MS)
        await sleep(random.int(10, 100))
      }
      // A round that ends early proves nothing.
      if (hits() > 0 || !stop.aborted) timeouts.push({ fault, hits: hits() })
    } finally {
      await applySetting()
    }
  }
  return { name: fault, apply }
}

import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import { withConnection } from '../../../src/commands/database.ts'
import type { Database } from '../../../src/data/schema.ts'
import type { ModelFault } from './faults.ts'
import type { Random } from './random.ts'
import type { Scene } from './scene.ts'

/** What an administrator, or another client of PostgreSQL, does to the statements of the API. */
export const BACKENDS: ModelFault[] = [
  {
    name: 'pg_cancel_backend',
    inflict: (scene, random) =>
      repeat(scene, random, (db) => sql`SELECT pg_cancel_backend(pid) ${busyWriters}`.execute(db)),
  },
  {
    name: 'pg_terminate_backend',
    inflict: (scene, random) =>
      repeat(scene, random, (db) => sql`SELECT pg_terminate_backend(pid) ${busyWriters}`.execute(db)),
  },
  {
    name: 'LOCK TABLE',
    inflict: ({ postgres }, random) => lock(postgres.superUrl, random, 4000),
  },
  {
    name: 'a small statement_timeout',
    inflict: (scene, random) => withSetting(scene, random, 'statement_timeout', random.int(3, 60), 0),
  },
  {
    name: 'a small lock_timeout, and LOCK TABLE',
    inflict: (scene, random) => withSetting(scene, random, 'lock_timeout', random.int(3, 60), 2500),
  },
]

/** One that writes, chosen by chance; while it does, where there is one. */
const busyWriters = sql`
  FROM (SELECT pid FROM pg_stat_activity WHERE application_name = 'sluice-write'
        ORDER BY state = 'active' DESC, random() LIMIT 1) AS busy`

async function repeat({ postgres }: Scene, random: Random, blow: (db: Database) => Promise<unknown>): Promise<void> {
  await withConnection(postgres.superUrl, async (db) => {
    for (let left = random.int(5, 40); left > 0; left--) {
      await blow(db)
      await sleep(random.int(0, 30))
    }
  })
}

/** Writers wait, or readers as well. */
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

/** New sessions of the API get it, so the existing ones are ended. @param lockMs how long the table is locked at a time, in milliseconds; 0: never */
async function withSetting(scene: Scene, random: Random, name: string, value: number, lockMs: number): Promise<void> {
  const end = performance.now() + random.int(500, 2500)
  await scene.setForApi(name, `${value}ms`)
  try {
    while (performance.now() < end) {
      if (lockMs > 0) await lock(scene.postgres.superUrl, random, lockMs)
      await sleep(random.int(10, 100))
    }
  } finally {
    await scene.setForApi(name, undefined)
  }
}

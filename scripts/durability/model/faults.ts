import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import { withConnection } from '../../../src/commands/database.ts'
import type { Database } from '../../../src/data/schema.ts'
import type { Cutter } from './cutter.ts'
import { RETENTION } from './history.ts'
import type { Random } from './random.ts'
import type { Scene } from './scene.ts'

export interface ModelFault {
  name: string
  inflict(scene: Scene, random: Random): Promise<unknown>
}

/** Faults of one lane come one after the other, and those of all lanes at the same time. */
export const LANES: Record<string, ModelFault[]> = {
  postgres: [
    {
      name: 'kill -9 of PostgreSQL',
      async inflict({ postgres }, random) {
        await postgres.kill()
        await sleep(random.int(0, 800))
        await postgres.start()
      },
    },
    { name: 'pg_ctl restart -m immediate', inflict: ({ postgres }) => postgres.restart('immediate') },
    {
      name: 'SIGSTOP of PostgreSQL',
      async inflict({ postgres }, random) {
        await postgres.freeze()
        await sleep(random.int(100, 2500))
        await postgres.thaw()
      },
    },
  ],
  backends: [
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
  ],
  network: [
    {
      name: 'connections to PostgreSQL cut after some bytes',
      inflict: ({ database }, random) => cutSome(random, () => database, 30),
    },
    {
      name: 'a connection cut at a COMMIT',
      async inflict({ network }, random) {
        const silently = random.chance(0.3)
        const cut = network.cutCommit(random.pick(['before', 'after', 'half']), silently)
        await Promise.race([cut, sleep(1500)])
        if (silently) await sleep(1000)
      },
    },
    {
      name: 'the network drops everything',
      async inflict({ network }, random) {
        network.drop()
        await sleep(random.int(100, 2500))
        network.heal()
      },
    },
    {
      name: 'the network delays each piece',
      async inflict({ network }, random) {
        network.delay(random.int(20, 200))
        await sleep(random.int(300, 1500))
        network.delay(0)
      },
    },
    {
      name: 'connections to PostgreSQL closed in one direction',
      inflict: async ({ network }, random) => network.halfClose(random.pick(['to the API', 'to PostgreSQL'])),
    },
  ],
  clients: [
    {
      name: 'connections of clients cut after some bytes',
      inflict: ({ instances }, random) => cutSome(random, () => random.pick(instances).cutter, 60),
    },
  ],
  instances: [
    {
      name: 'kill -9 of an instance',
      inflict: ({ instances }, random) => random.pick(instances).kill(random.int(0, 500)),
    },
    { name: 'SIGTERM of an instance', inflict: ({ instances }, random) => random.pick(instances).replace() },
    {
      name: 'SIGSTOP of an instance',
      inflict: ({ instances }, random) => random.pick(instances).freeze(random.int(100, 2500)),
    },
  ],
  retention: [{ name: RETENTION, inflict: (scene) => scene.retain() }],
}

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

/** New sessions of the API have it; so those that are there are ended. @param lockMs in bursts of so many milliseconds */
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

async function cutSome(random: Random, choose: () => Cutter, times: number): Promise<void> {
  for (let left = random.int(3, times); left > 0; left--) {
    const bytes = random.chance(0.5) ? random.int(1, 600) : random.int(1, 60_000)
    choose().cut(bytes, random.pick(['up', 'down']), random.chance(0.5), (connections) =>
      random.int(0, Math.max(0, connections - 1)),
    )
    await sleep(random.int(5, 60))
  }
}

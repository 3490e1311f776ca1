import { setTimeout as sleep } from 'node:timers/promises'
import { BACKENDS } from './backend-faults.ts'
import type { Cutter } from './cutter.ts'
import { type History, RETENTION } from './history.ts'
import type { Random } from './random.ts'
import type { Scene } from './scene.ts'

export interface ModelFault {
  name: string
  /** @param stop aborts at the end of the round, when clients stop sending */
  apply(scene: Scene, random: Random, history: History, stop: AbortSignal): Promise<unknown>
}

/** Faults of the same lane happen one after the other. Different lanes run at the same time. */
export const LANES: Record<string, ModelFault[]> = {
  postgres: [
    {
      // If PostgreSQL acknowledged a commit before writing it to disk, this loses it: see SERVER_SETTINGS.
      name: 'kill -9 of PostgreSQL after an acknowledgement',
      async apply({ postgres }, random, history) {
        await history.moments.next('acknowledged', 1500)
        await postgres.kill()
        await sleep(random.int(0, 800))
        await postgres.start()
      },
    },
    { name: 'pg_ctl restart -m immediate', apply: ({ postgres }) => postgres.restart('immediate') },
    {
      name: 'SIGSTOP of PostgreSQL',
      async apply({ postgres }, random) {
        await postgres.freeze()
        await sleep(random.int(100, 2500))
        await postgres.thaw()
      },
    },
  ],
  backends: BACKENDS,
  network: [
    {
      name: 'connections to PostgreSQL cut after some bytes',
      apply: ({ database }, random) => cutSome(random, () => database, 30),
    },
    {
      name: 'a connection cut at a COMMIT',
      async apply({ network }, random) {
        const silently = random.chance(0.3)
        const cut = network.cutCommit(random.pick(['before', 'after', 'half']), silently)
        await Promise.race([cut, sleep(1500)])
        if (silently) await sleep(1000)
      },
    },
    {
      name: 'the network drops everything',
      async apply({ network }, random) {
        network.drop()
        await sleep(random.int(100, 2500))
        network.heal()
      },
    },
    {
      name: 'the network delays each piece',
      async apply({ network }, random) {
        network.delay(random.int(20, 200))
        await sleep(random.int(300, 1500))
        network.delay(0)
      },
    },
    {
      name: 'connections to PostgreSQL closed in one direction',
      apply: async ({ network }, random) => network.halfClose(random.pick(['to the API', 'to PostgreSQL'])),
    },
  ],
  clients: [
    {
      name: 'connections of clients cut after some bytes',
      apply: ({ instances }, random) => cutSome(random, () => random.pick(instances).cutter, 60),
    },
  ],
  instances: [
    {
      name: 'kill -9 of an instance',
      apply: ({ instances }, random) => random.pick(instances).kill(random.int(0, 500)),
    },
    { name: 'SIGTERM of an instance', apply: ({ instances }, random) => random.pick(instances).replace() },
    {
      name: 'SIGSTOP of an instance',
      apply: ({ instances }, random) => random.pick(instances).freeze(random.int(100, 2500)),
    },
  ],
  retention: [{ name: RETENTION, apply: (scene) => scene.retain() }],
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

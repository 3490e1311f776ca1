import { setTimeout as sleep } from 'node:timers/promises'
import type { Fault } from '../fault.ts'
import type { CommitCut } from '../proxy.ts'

/** Faults of the network between the API and PostgreSQL. */
export const NETWORK_FAULTS: Fault[] = [
  {
    name: 'network-drop',
    title: 'the network drops everything silently for 5 s',
    quickTitle: 'the network drops everything silently for 1 s',
    async apply({ proxy, resumed }, quick) {
      const { release } = await proxy.pauseCopy()
      proxy.drop()
      release()
      await sleep(quick ? 1_000 : 5_000)
      proxy.heal()
      await resumed()
      return undefined
    },
  },
  {
    name: 'network-delay',
    title: 'the network delays each piece by up to 400 ms, for 10 s',
    quickTitle: 'the network delays each piece by up to 400 ms, for 2 s',
    async apply({ proxy, resumed }, quick) {
      proxy.delay(400)
      await sleep(quick ? 2_000 : 10_000)
      proxy.delay(0)
      await resumed()
      return undefined
    },
  },
  {
    name: 'network-half-close',
    title: 'connections closed in one direction, 40 times',
    quickTitle: 'connections closed in one direction, 6 times',
    async apply({ proxy, writers }, quick) {
      for (let round = 0; round < (quick ? 6 : 40); round++) {
        const { release } = await proxy.pauseCopy()
        proxy.halfClose(round % 2 === 0 ? 'to the API' : 'to PostgreSQL')
        release()
        await writers.acknowledged(10)
      }
      return undefined
    },
  },
  {
    name: 'network-commit',
    title: 'connections cut at COMMIT, 200 times',
    quickTitle: 'connections cut at COMMIT, 30 times',
    async apply({ proxy, writers }, quick) {
      const cuts: CommitCut[] = ['after', 'half', 'before']
      for (let round = 0; round < (quick ? 30 : 200); round++) {
        await proxy.cutCommit(cuts[round % 3] as CommitCut)
        await writers.acknowledged(3)
      }
      return 'a third each: before it, after it, in the middle of its response'
    },
  },
  {
    name: 'network-commit-lost',
    title: 'COMMIT or its response lost silently, 12 times',
    quickTitle: 'COMMIT or its response lost silently, twice',
    async apply({ proxy, writers }, quick) {
      for (let round = 0; round < (quick ? 2 : 12); round++) {
        await proxy.cutCommit(round % 2 === 0 ? 'before' : 'after', true)
        await writers.acknowledged(30)
      }
      return 'half each'
    },
  },
]

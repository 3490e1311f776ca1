import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { decodeOffset } from '../../../src/lib/offset.ts'
import type { Fault } from '../fault.ts'
import { idOf } from '../records.ts'
import type { ClientResponse } from '../responses.ts'
import { openWithStandby, type Replicated } from '../standby.ts'

/** Long enough for the primary to commit something that the standby does not get. */
const ISOLATED_MS = 200
/** Requests that the new primary must acknowledge, so that a reader sees records of both primaries. */
const AFTERWARDS = 100

/** The primary is lost, and its standby replaces it. */
export const FAILOVER_FAULTS: Fault[] = [
  {
    name: 'failover',
    title: 'failover: kill -9 of PostgreSQL, its synchronous standby promoted 4 s later',
    quickTitle: 'failover: kill -9 of PostgreSQL, its synchronous standby promoted 1 s later',
    open: (folder) => openWithStandby(join(folder, 'failover')),
    async apply(stage, quick) {
      const { postgres, proxy, writers, reader, resumed } = stage
      const { standby } = postgres as Replicated
      if (!(await reader.caughtUp(acknowledged(writers.responses)))) throw new Error('The reader did not catch up')
      // Two flushes are running when the primary ends. The standby has the first one, but the API got no response to its COMMIT.
      // The second one is committed on the primary, but the standby does not have it.
      await proxy.cutCommit('after', true)
      await standby.isolate()
      await sleep(ISOLATED_MS)
      await postgres.kill()
      // Not 5 s, because the standby tries to reach its primary every 5 s, and a promotion at that moment takes another 5 s.
      await sleep(quick ? 1_000 : 4_000)
      await standby.promote()
      proxy.redirect({ host: '127.0.0.1', port: standby.port })
      await resumed()
      await writers.acknowledged(AFTERWARDS)
      await reader.caughtUp(acknowledged(writers.responses))
      const epochs = new Set(reader.shown.map(({ cursor }) => decodeOffset(cursor)?.epoch))
      if (epochs.size !== 2)
        throw new Error(`The records of two primaries must be in two epochs, but they are in ${epochs.size}`)
      return undefined
    },
  },
]

/** Returns the ids of the records that were created. */
const acknowledged = (responses: readonly ClientResponse[]): string[] =>
  responses.flatMap(({ numbers, claims }) => numbers.filter((_, index) => claims[index] === 'created').map(idOf))

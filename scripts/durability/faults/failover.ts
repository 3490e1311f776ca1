import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { decodeCursor } from '../../../src/lib/cursor.ts'
import type { Answer } from '../answers.ts'
import type { Fault } from '../fault.ts'
import { idOf } from '../records.ts'
import { openWithStandby, type Replicated } from '../standby.ts'

/** So long that something is committed. */
const MOMENT_MS = 200
/** Acknowledged by the new primary, so that a reader meets records of both. */
const AFTERWARDS = 100

/** PostgreSQL is lost for good, and another takes its place. */
export const FAILOVER_FAULTS: Fault[] = [
  {
    name: 'failover',
    title: 'failover: kill -9 of PostgreSQL, its synchronous standby promoted 4 s later',
    quickTitle: 'failover: kill -9 of PostgreSQL, its synchronous standby promoted 1 s later',
    open: (folder) => openWithStandby(join(folder, 'failover')),
    async inflict(stage, quick) {
      const { postgres, proxy, writers, reader, back } = stage
      const { standby } = postgres as Replicated
      if (!(await reader.caughtUp(acknowledged(writers.answers)))) throw new Error('The reader does not catch up')
      // Two flushes are under way when it ends: one that the standby has, and the API has no answer to; and one that is
      // committed, and the standby has not.
      await proxy.cutCommit('after', true)
      await standby.isolate()
      await sleep(MOMENT_MS)
      await postgres.kill()
      // Not 5 s: a standby looks for its primary as often, and one that is told amid that looks once more before it listens.
      await sleep(quick ? 1_000 : 4_000)
      await standby.promote()
      proxy.lead({ host: '127.0.0.1', port: standby.port })
      await back()
      await writers.acknowledged(AFTERWARDS)
      await reader.caughtUp(acknowledged(writers.answers))
      const epochs = new Set(reader.shown.map(({ cursor }) => decodeCursor(cursor)?.epoch))
      if (epochs.size !== 2) throw new Error(`The records of two primaries are in ${epochs.size} epochs`)
      return undefined
    },
  },
]

/** By their ids. */
const acknowledged = (answers: readonly Answer[]): string[] =>
  answers.flatMap(({ numbers, claims }) => numbers.filter((_, index) => claims[index] === 'created').map(idOf))

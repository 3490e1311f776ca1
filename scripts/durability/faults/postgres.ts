import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import { withConnection } from '../../../src/commands/database.ts'
import type { ErrorBound, Fault } from '../fault.ts'

/** Acknowledged requests between two restarts, so that no client exceeds its hold window. */
const ACKNOWLEDGED_BETWEEN = 30

/** A client is refused only after it has waited for the whole hold window. */
const WINDOW_EXCEEDED: ErrorBound = {
  most: ({ clients, holdMs, brokenMs }) => clients * (1 + Math.floor(brokenMs / holdMs)),
  because: 'each client once per hold window',
}

/** Faults of PostgreSQL. */
export const POSTGRES_FAULTS: Fault[] = [
  {
    name: 'postgres-kill',
    title: 'kill -9 of PostgreSQL, 20 times',
    quickTitle: 'kill -9 of PostgreSQL, twice',
    async apply({ postgres, proxy, writers, resumed }, quick) {
      for (let round = 0; round < (quick ? 2 : 20); round++) {
        await proxy.pauseCopy()
        await postgres.kill()
        await postgres.start()
        await resumed()
        await writers.acknowledged(ACKNOWLEDGED_BETWEEN)
      }
      return undefined
    },
  },
  {
    name: 'postgres-restart',
    title: 'pg_ctl restart -m immediate, 3 times',
    quickTitle: 'pg_ctl restart -m immediate',
    async apply({ postgres, proxy, writers, resumed }, quick) {
      for (let round = 0; round < (quick ? 1 : 3); round++) {
        await proxy.pauseCopy()
        await postgres.restart('immediate')
        await resumed()
        await writers.acknowledged(ACKNOWLEDGED_BETWEEN)
      }
      return undefined
    },
  },
  {
    name: 'postgres-stop',
    title: 'PostgreSQL stopped for 10 s',
    quickTitle: 'PostgreSQL stopped for 2 s',
    apply: stopFor({ long: 10_000, quick: 2_000 }),
  },
  {
    name: 'postgres-stop-longer',
    title: 'PostgreSQL stopped for 8 s, window 3 s',
    quickTitle: 'PostgreSQL stopped until a request is refused, window 0.5 s',
    env: { OUTAGE_HOLD_SECONDS: '3' },
    quickEnv: { OUTAGE_HOLD_SECONDS: '0.5' },
    errors: WINDOW_EXCEEDED,
    apply: stopFor({ long: 8_000, quick: 0, untilRefused: true }),
  },
  {
    name: 'postgres-freeze',
    title: 'SIGSTOP of PostgreSQL for 5 s',
    quickTitle: 'SIGSTOP of PostgreSQL until the API gives up a COPY',
    apply: freezeFor({ long: 5_000, quick: 0 }),
  },
  {
    name: 'postgres-freeze-longer',
    title: 'SIGSTOP of PostgreSQL for 8 s, window 3 s',
    quickTitle: 'SIGSTOP of PostgreSQL until the API gives up a COPY and a request is refused, window 0.5 s',
    env: { OUTAGE_HOLD_SECONDS: '3' },
    quickEnv: { OUTAGE_HOLD_SECONDS: '0.5' },
    errors: WINDOW_EXCEEDED,
    apply: freezeFor({ long: 8_000, quick: 0, untilRefused: true }),
  },
  {
    name: 'backends',
    title: 'pg_terminate_backend at random, 200 times',
    quickTitle: 'pg_terminate_backend at random, 20 times',
    async apply({ postgres, proxy, writers }, quick) {
      const killed = await withConnection(postgres.superUrl, async (db) => {
        let count = 0
        for (let round = 0; round < (quick ? 20 : 200); round++) {
          // Every other time, a backend that runs COPY.
          const pid = round % 2 === 0 ? (await proxy.pauseCopy()).pid : null
          const { rows } = await sql`
            SELECT pg_terminate_backend(pid)
            FROM (
              SELECT pid FROM pg_stat_activity
              WHERE application_name ~ '^sluice-(write|read)' AND pid = coalesce(${pid}, pid)
              ORDER BY random() LIMIT 1
            )`.execute(db)
          count += rows.length
          await writers.acknowledged(5)
        }
        return count
      })
      return `${killed} backends terminated`
    },
  },
]

interface Absence {
  /** The shortest duration in milliseconds: of the full form, and of the quick one in `npm test`. */
  long: number
  quick: number
  /** Also waits until a request was refused, so that even a slow machine exceeds the hold window. */
  untilRefused?: true
}

function stopFor({ long, quick: short, untilRefused }: Absence): Fault['apply'] {
  return async ({ postgres, proxy, writers, resumed }, quick) => {
    await proxy.pauseCopy()
    await postgres.stop('fast')
    await Promise.all([sleep(quick ? short : long), untilRefused && writers.refused()])
    await postgres.start()
    await resumed()
    return undefined
  }
}

/** Also waits until the API gives up the COPY, which takes about four seconds: see src/postgres/dead-connections.ts. */
function freezeFor({ long, quick: short, untilRefused }: Absence): Fault['apply'] {
  return async ({ postgres, proxy, writers, resumed }, quick) => {
    const { release, over } = await proxy.pauseCopy()
    await postgres.freeze()
    release()
    await Promise.all([sleep(quick ? short : long), over, untilRefused && writers.refused()])
    await postgres.thaw()
    await resumed()
    return undefined
  }
}

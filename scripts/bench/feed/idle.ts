import { setTimeout as sleep } from 'node:timers/promises'
import { start } from '../processes.ts'
import { startServer } from '../servers/start.ts'
import type { Run } from '../table.ts'
import type { Arrivals, Task } from './followers.ts'
import { countStatements } from './statements.ts'

/** Some queries run only every two seconds. */
const MIN_SECONDS = 2
/** Until the followers have read what they read at the beginning. */
const SETTLE_MS = 1_000

/** Counts the statements per second of an idle server, with this number of followers. */
export async function countIdleQueries({ database, options }: Run, counts: readonly number[]): Promise<number[]> {
  const counter = await countStatements(database.apiUrl)
  const [server, followers] = await Promise.all([
    // Without the rollups, which would count the records of the measurements before.
    startServer('ours', { ...database, apiUrl: counter.url }, undefined, { ROLLUP_MAX_SERIES: '0' }),
    start('feed/followers.ts'),
  ])
  const rates: number[] = []
  for (const count of counts) {
    const open: Task = { kind: 'open', port: server.port, key: database.key, followers: waiting(count) }
    await followers.ask<null>(open)
    await sleep(SETTLE_MS)
    const [begin, before] = [performance.now(), counter.statements()]
    await sleep(Math.max(options.seconds, MIN_SECONDS) * 1000)
    const rate = ((counter.statements() - before) / (performance.now() - begin)) * 1000
    console.error(`feed idle, ${count} followers: ${rate.toFixed(1)} queries/s`)
    rates.push(rate)
    await followers.ask<Arrivals>({ kind: 'close', records: 0 } satisfies Task)
  }
  await followers.stop()
  await server.child.stop()
  counter.close()
  return rates
}

/** Each waits for another source, and none of these has records. */
export const waiting = (count: number) =>
  Array.from({ length: count }, (_, index) => ({ query: `source=urn:nobody:${index}` }))

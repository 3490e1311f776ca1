import { peakWhile } from '../memory/rss.ts'
import type { Order } from '../requests/measure.ts'
import type { Outcome, Run } from '../table.ts'
import type { Arrivals, Task } from './followers.ts'
import type { Sent } from './sender.ts'
import { startAll } from './start-all.ts'

const CONNECTIONS = 64
/** Every tenth follower reads nothing. */
const STALLED = 10
/** Limit for the memory of the server. */
const LIMIT_MIB = 256

/** Measures the peak memory of the server while followers get every record that is sent. Some of them read nothing. */
export async function measureFollowersMemory(run: Run): Promise<Outcome> {
  const { database, options } = run
  const { server, sender, followers, stop } = await startAll(run)
  const { port } = server
  const { key } = database
  const order: Order = { port, key, connections: CONNECTIONS, size: 1, seconds: options.seconds * options.rounds }
  const open = Array.from({ length: options.followers }, (_, index) => ({ query: '', stalled: index % STALLED === 0 }))

  const { peak, result: sent } = await peakWhile(server.child, async () => {
    await followers.ask<null>({ kind: 'open', port, key, followers: open } satisfies Task)
    return sender.ask<Sent>(order)
  })
  await followers.ask<Arrivals>({ kind: 'close', records: 0 } satisfies Task)
  await stop()

  const rss_mib = Math.ceil(peak / 2 ** 20)
  console.error(`feed memory: ${Math.round(sent.rate)} records/s, at most ${rss_mib} MiB`)
  const faults: string[] = []
  if (sent.failures > 0) faults.push(`feed memory: ${sent.failures} requests failed (${sent.failure})`)
  if (rss_mib > LIMIT_MIB) faults.push(`feed memory: the server used ${rss_mib} MiB, more than ${LIMIT_MIB}`)
  return { rows: [{ name: 'feed memory', rate: Math.round(sent.rate), rss_mib, ratios: {} }], faults }
}

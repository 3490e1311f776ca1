import { start } from '../processes.ts'
import { startServer } from '../servers/start.ts'
import type { Outcome, Run } from '../table.ts'
import type { Streamed, Task } from './peer.ts'
import { peakWhile } from './rss.ts'

/** Limit for the memory of the server, however much data it streams. */
const LIMIT_MIB = 256

/** Measures the peak memory of one server process while NDJSON streams in, and then while it streams out. */
export async function measureMemory({ database, options }: Run): Promise<Outcome> {
  await database.empty()
  const [server, peer] = await Promise.all([startServer('ours', database, options.profile), start('memory/peer.ts')])
  const { port } = server
  const { key } = database

  const into = await stream({ kind: 'send', port, key, bytes: options.gib * 2 ** 30 })
  const out = await stream({ kind: 'receive', port, key })
  await Promise.all([server.child.stop(), peer.stop()])

  const stored = await database.count('ours')
  if (stored !== into.records) throw new Error(`memory: ${into.records} records were sent, ${stored} are stored`)
  if (stored !== out.records) throw new Error(`memory: ${stored} records are stored, ${out.records} were read`)
  const rows = [toRow('memory in', into), toRow('memory out', out)]
  return {
    rows,
    faults: rows
      .filter(({ rss_mib }) => rss_mib > LIMIT_MIB)
      .map(({ name, rss_mib }) => `${name}: the server used ${rss_mib} MiB, more than ${LIMIT_MIB}`),
  }

  async function stream(task: Task): Promise<Streamed & { peak: number }> {
    const { peak, result } = await peakWhile(server.child, () => peer.ask<Streamed>(task))
    const { records, seconds, bytes } = result
    console.error(
      `memory ${task.kind}: ${inMiB(bytes)} MiB, ${records} records in ${seconds.toFixed(1)} s, at most ${inMiB(peak)} MiB`,
    )
    return { ...result, peak }
  }
}

const toRow = (name: string, { records, seconds, peak }: Streamed & { peak: number }) => ({
  name,
  rate: Math.round(records / seconds),
  rss_mib: inMiB(peak),
  ratios: {},
})

const inMiB = (bytes: number) => Math.ceil(bytes / 2 ** 20)

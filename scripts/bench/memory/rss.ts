import { readFile, writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Child } from '../processes.ts'
import type { Usage } from '../servers/serve.ts'

/** Where the system keeps no peak, this often. */
const SAMPLE_MS = 50

/** The resident memory that a process had at most while the work was done, in bytes. */
export async function peakWhile<T>(child: Child, work: () => Promise<T>): Promise<{ peak: number; result: T }> {
  if (process.platform === 'linux') {
    await forgetPeak(child.pid)
    const result = await work()
    return { peak: await readPeak(child.pid), result }
  }
  const over = new AbortController()
  const sampled = sample(child, over.signal)
  const result = await work().finally(() => over.abort())
  return { peak: await sampled, result }
}

// https://man7.org/linux/man-pages/man5/proc_pid_clear_refs.5.html: 5 sets the peak back to what it has now. Where this
// is not allowed, the peak is that of its whole life: no less.
const forgetPeak = (pid: number) => writeFile(`/proc/${pid}/clear_refs`, '5').catch(() => {})

// The kernel keeps it: no peak, however short, is missed.
async function readPeak(pid: number): Promise<number> {
  const [, kib] = /^VmHWM:\s+(\d+) kB$/m.exec(await readFile(`/proc/${pid}/status`, 'utf8')) ?? []
  if (kib === undefined) throw new Error(`/proc/${pid}/status does not tell VmHWM`)
  return Number(kib) * 1024
}

async function sample(child: Child, over: AbortSignal): Promise<number> {
  let peak = 0
  while (!over.aborted) {
    peak = Math.max(peak, (await child.ask<Usage>({})).rss)
    await sleep(SAMPLE_MS)
  }
  return peak
}

import { readFile, writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Child } from '../processes.ts'
import type { Usage } from '../servers/serve.ts'

/** Memory is sampled at this interval: the peak of a process is lost when it ends, and only Linux keeps a peak. */
const SAMPLE_MS = 50

const isLinux = process.platform === 'linux'

/** The peak resident memory of a process during the work, or until the process ended, in bytes. */
export async function peakWhile<T>(child: Child, work: () => Promise<T>): Promise<{ peak: number; result: T }> {
  if (isLinux) await resetPeak(child.pid)
  const over = new AbortController()
  const sampled = sample(child, over.signal)
  const result = await work().finally(() => over.abort())
  return { peak: await sampled, result }
}

// https://man7.org/linux/man-pages/man5/proc_pid_clear_refs.5.html: 5 resets the peak to the current value. If this is not
// allowed, the peak is that of the whole life of the process, which is never lower.
const resetPeak = (pid: number) => writeFile(`/proc/${pid}/clear_refs`, '5').catch(() => {})

async function sample(child: Child, over: AbortSignal): Promise<number> {
  let peak = 0
  for (let last = false; !last && child.end() === undefined; ) {
    last = over.aborted
    const rss = isLinux ? await readPeak(child.pid) : (await child.ask<Usage>({})).rss
    peak = Math.max(peak, rss)
    if (!last) await sleep(SAMPLE_MS, undefined, { signal: over }).catch(() => {})
  }
  return peak
}

// The kernel keeps the peak, so not even a short one is missed. @returns 0 if the process has ended
async function readPeak(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
  const [, kib] = /^VmHWM:\s+(\d+) kB$/m.exec(status) ?? []
  return Number(kib ?? 0) * 1024
}

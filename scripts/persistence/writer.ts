import { createHash } from 'node:crypto'
import type { Api, Sent } from './api.ts'

/** Content that anyone can work out from the number. */
export function makeRecord(n: number): Sent {
  return { id: String(n), data: { n, text: createHash('sha256').update(String(n)).digest('base64') } }
}

export interface Writer {
  /** What was acknowledged so far, in order. */
  acknowledged: Sent[]
  /** From one acknowledgement to the next, the longest. */
  longestPauseMs(): number
  /** Ends when `more` further records were acknowledged. @throws what made the writer give up */
  stop(more: number): Promise<void>
}

/** Stores one record after the other, as a client that waits for each answer. */
export function startWriter(api: Api, source: string): Writer {
  const acknowledged: Sent[] = []
  let until = Number.POSITIVE_INFINITY
  let last = performance.now()
  let longest = 0

  const running = (async () => {
    while (acknowledged.length < until) {
      const record = makeRecord(acknowledged.length)
      await api.store(source, [record])
      acknowledged.push(record)
      longest = Math.max(longest, performance.now() - last)
      last = performance.now()
    }
  })()
  // Told by stop(); until then nobody listens.
  running.catch(() => {})

  return {
    acknowledged,
    longestPauseMs: () => longest,
    stop: (more) => {
      until = acknowledged.length + more
      return running
    },
  }
}

import { createHash } from 'node:crypto'
import type { Api, Sent } from './api.ts'

/** The content follows from the number. */
export function makeRecord(n: number): Sent {
  return { id: String(n), data: { n, text: createHash('sha256').update(String(n)).digest('base64') } }
}

export interface Writer {
  /** The records that have been acknowledged so far, in order. */
  acknowledged: Sent[]
  /** The longest time between two acknowledgements. */
  longestPauseMs(): number
  /** Stops after `more` further acknowledgements. @throws the error that ended the writer */
  stop(more: number): Promise<void>
}

/** Stores one record after the other, and waits for each response. */
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
  // stop() reports the rejection. Until then, it must not count as unhandled.
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

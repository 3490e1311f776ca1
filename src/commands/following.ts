import type { Command } from 'commander'
import { type Attempt, retry } from '../client/retry.ts'
import { printable } from '../lib/printable.ts'
import { onSignals } from './signals.ts'

// What programs that follow the feed until they are stopped have in common.

/** The options of a FeedFilter. They are called as in `sluice export`. */
export const addFilterOptions = (command: Command): Command =>
  command
    .option('--source <source>', 'records of this source')
    .option('--source-prefix <text>', 'records whose source starts with this text')
    .option('--type <type>', 'records of this type; repeatable', (type, types: string[] = []) => [...types, type])
    .option('--subject <subject>', 'records with this subject')

/** @returns a signal that the first Ctrl-C or SIGTERM aborts. A second one ends the process */
export function stopOnSignals(): AbortSignal {
  const stop = new AbortController()
  onSignals(
    ['SIGINT', 'SIGTERM'],
    () => stop.abort(),
    () => process.exit(1),
  )
  return stop.signal
}

interface Attempts {
  /** Repeats a request as the other commands do, or, after `persist`, until it succeeds. */
  attempt: Attempt
  /** The URL, the key and the options are right: from now on, a failure is an outage, and is reported once. */
  persist(): void
}

/** How requests are repeated. */
export function startAttempts(stop: AbortSignal): Attempts {
  let isEndless = false
  let isReported = false
  const onWait = (text: string) => {
    if (!stop.aborted && !isReported) console.error(printable(text))
    isReported = isEndless
  }
  return {
    attempt: async (work) => {
      const result = await retry(work, { stop, onWait, ...(isEndless && { tries: Number.POSITIVE_INFINITY }) })
      isReported = false
      return result
    },
    persist() {
      isEndless = true
    },
  }
}

/** Whether the signal has ended a request, or a wait between two tries. */
export const isAbort = (error: unknown): boolean => (error as Error).name === 'AbortError'

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

/** How requests are repeated: at the start as in the other commands, and then until they succeed, with one message per outage. */
export function attempts(stop: AbortSignal): { briefly: Attempt; patiently: Attempt } {
  let isOutage = false
  const note = (text: string) => {
    if (!stop.aborted) console.error(printable(text))
  }
  const noteOnce = (text: string) => {
    if (!isOutage) note(text)
    isOutage = true
  }
  return {
    briefly: (work) => retry(work, { stop, onWait: note }),
    patiently: async (work) => {
      const result = await retry(work, { tries: Number.POSITIVE_INFINITY, stop, onWait: noteOnce })
      isOutage = false
      return result
    },
  }
}

export const isAbort = (error: unknown) => (error as Error).name === 'AbortError'

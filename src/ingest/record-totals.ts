import { compilePrefixes } from '../lib/source-prefix.ts'
import type { Counts } from '../schemas/results.ts'
import { noCounts } from './results.ts'

/** What is known of a record. */
export interface Sent {
  source?: string
  type?: string
}

/** Counts the records that were sent and not stored. */
export interface UnstoredCounter {
  add(what: 'duplicates' | 'rejected', record: Sent): void
}

/** Counts the results of records. */
export interface Totals {
  /** @param sent called only if it is needed */
  add(status: keyof Counts, sent?: () => Sent | undefined): void
}

/** Records by result, of all requests since the start. */
export class RecordTotals implements Totals {
  readonly counts = noCounts()
  #unstored: UnstoredCounter | undefined

  /** From now on, `counter` also counts those that were not stored. */
  countUnstored(counter: UnstoredCounter): void {
    this.#unstored = counter
  }

  add(status: keyof Counts, sent?: () => Sent | undefined): void {
    this.counts[status]++
    if (status === 'created') return
    this.#unstored?.add(status === 'duplicate' ? 'duplicates' : 'rejected', sent?.() ?? {})
  }

  /** The same totals, for a key with these source prefixes: what it sends counts only for sources that it may use. */
  of(prefixes: readonly string[]): Totals {
    if (prefixes.length === 0) return this
    let admits: ((source: string) => boolean) | undefined
    const own = (sent: Sent | undefined) => {
      admits ??= compilePrefixes(prefixes)
      return sent?.source !== undefined && admits(sent.source) ? sent : undefined
    }
    return { add: (status, sent) => this.add(status, sent && (() => own(sent()))) }
  }
}

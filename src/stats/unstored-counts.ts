import type { Entry } from '../data/rollups.ts'
import type { Sent, UnstoredCounter } from '../ingest/record-totals.ts'
import { BUCKET_SECONDS } from '../schemas/stats.ts'

/** Beyond this number, records of further types and sources are counted without them. */
const MAX_ENTRIES = 1000

const LENGTH_MS = BUCKET_SECONDS.minute * 1000

/** Counts records that were sent and not stored, per minute, source and type, until they are added to the rollups. */
export class UnstoredCounts implements UnstoredCounter {
  #entries = new Map<string, Entry>()

  add(what: 'duplicates' | 'rejected', { source, type }: Sent): void {
    // Any text can be sent. No stored record has these, so there are no series for them.
    const isKnown = source !== undefined && type !== undefined && type !== '' && !`${source}${type}`.includes('\0')
    this.#entryOf(Math.floor(Date.now() / LENGTH_MS), isKnown ? source : '', isKnown ? type : '')[what]++
  }

  /** @param minute since 1970 */
  #entryOf(minute: number, source: string, type: string): Entry {
    const key = `${minute} ${type.length} ${type}${source}`
    let entry = this.#entries.get(key)
    if (entry !== undefined) return entry
    if (this.#entries.size >= MAX_ENTRIES && type !== '') return this.#entryOf(minute, '', '')
    entry = { start: new Date(minute * LENGTH_MS).toISOString(), source, type, duplicates: 0, rejected: 0 }
    this.#entries.set(key, entry)
    return entry
  }

  get isEmpty(): boolean {
    return this.#entries.size === 0
  }

  /** Removes all entries. */
  take(): Entry[] {
    const entries = [...this.#entries.values()]
    this.#entries = new Map()
    return entries
  }

  /** Puts entries back that could not be stored. */
  restore(entries: readonly Entry[]): void {
    for (const { start, source, type, duplicates, rejected } of entries) {
      const entry = this.#entryOf(Date.parse(start) / LENGTH_MS, source, type)
      entry.duplicates += duplicates
      entry.rejected += rejected
    }
  }
}

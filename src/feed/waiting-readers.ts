import { isTurnOver, waitForTurn } from '../lib/turns.ts'
import type { FeedFilter } from './feed-filter.ts'
import type { FeedRecord } from './feed-record.ts'

/**
 * @param upTo no record up to this offset matches
 * @param last the offset of the last record that may match; absent: everything must be read again
 */
type Wake = (upTo: string, last?: string) => void

/** Waiting readers with the same filter. */
interface Group {
  filter: FeedFilter
  wakes: Set<Wake>
}

/**
 * Readers that wait for a record. Each filter is compared once, however many readers have it. Most readers follow a source or a few
 * types, and those are found by them. So a record is compared only with filters that it may match.
 */
export class WaitingReaders {
  readonly #groups = new Map<string, Group>()
  /** Groups by what their records have: a source, or else a type, or else anything. */
  readonly #index = new Map<string, Set<Group>>()

  /**
   * @param wake called when a record matches, or when everything must be read again
   * @returns a function to call when the reader no longer waits
   */
  add(filter: FeedFilter, wake: Wake): () => void {
    const { name } = filter
    const group = this.#groups.get(name) ?? { filter, wakes: new Set() }
    if (!this.#groups.has(name)) this.#enter(group)
    group.wakes.add(wake)
    return () => {
      group.wakes.delete(wake)
      if (group.wakes.size === 0 && this.#groups.get(name) === group) this.#remove(group)
    }
  }

  #enter(group: Group): void {
    this.#groups.set(group.filter.name, group)
    for (const place of placesOf(group.filter)) {
      const groups = this.#index.get(place) ?? new Set()
      this.#index.set(place, groups.add(group))
    }
  }

  #remove(group: Group): void {
    this.#groups.delete(group.filter.name)
    for (const place of placesOf(group.filter)) {
      const groups = this.#index.get(place) as Set<Group>
      groups.delete(group)
      if (groups.size === 0) this.#index.delete(place)
    }
  }

  /**
   * Wakes the readers for whom there is something in these records. With many filters this takes several turns of the event loop.
   * @param upTo the offset before these records
   */
  async wakeFor(records: readonly FeedRecord[], upTo: string): Promise<void> {
    const matching = new Set<Group>()
    for (const record of records) {
      if (isTurnOver()) await waitForTurn('')
      for (const place of [sourcePlace(record.source), typePlace(record.type), ANYTHING]) {
        for (const group of this.#index.get(place) ?? [])
          if (!matching.has(group) && group.filter.isMatch(record)) matching.add(group)
      }
    }
    const last = records.at(-1)?.offset
    for (const { wakes } of matching) for (const wake of [...wakes]) wake(upTo, last)
  }

  wakeAll(upTo: string): void {
    for (const { wakes } of [...this.#groups.values()]) for (const wake of [...wakes]) wake(upTo)
  }
}

const ANYTHING = ''
const sourcePlace = (source: string) => `source ${source}`
const typePlace = (type: string) => `type ${type}`

function placesOf({ selection: { source, types } }: FeedFilter): string[] {
  if (source !== undefined) return [sourcePlace(source)]
  return types === undefined ? [ANYTHING] : [...new Set(types)].map(typePlace)
}

import { type FeedFilter, type FeedRecord, isMatch, nameOf } from './feed-record.ts'

/** @param upTo no record up to this offset matches */
type Wake = (upTo: string) => void

/** Waiting readers with the same filter. */
interface Group {
  filter: FeedFilter
  wakes: Set<Wake>
}

/**
 * Readers that wait for a record. Each filter is compared once, however many readers have it. Most readers follow one source, and
 * those are found by their source. So a record is compared only with filters that it may match.
 */
export class WaitingReaders {
  readonly #groups = new Map<string, Group>()
  readonly #bySource = new Map<string | undefined, Set<Group>>()

  /**
   * @param wake called when a record matches, or when everything must be read again
   * @returns a function to call when the reader no longer waits
   */
  add(filter: FeedFilter, wake: Wake): () => void {
    const { source } = filter
    const name = nameOf(filter)
    const group = this.#groups.get(name) ?? { filter, wakes: new Set() }
    this.#groups.set(name, group)
    group.wakes.add(wake)
    const same = this.#bySource.get(source) ?? new Set()
    this.#bySource.set(source, same.add(group))
    return () => {
      group.wakes.delete(wake)
      if (group.wakes.size > 0 || this.#groups.get(name) !== group) return
      this.#groups.delete(name)
      same.delete(group)
      if (same.size === 0) this.#bySource.delete(source)
    }
  }

  /** @param upTo the offset before these records */
  wakeFor(records: readonly FeedRecord[], upTo: string): void {
    const matching = new Set<Group>()
    for (const record of records) {
      for (const source of [record.source, undefined]) {
        for (const group of this.#bySource.get(source) ?? [])
          if (!matching.has(group) && isMatch(group.filter, record)) matching.add(group)
      }
    }
    for (const { wakes } of matching) for (const wake of [...wakes]) wake(upTo)
  }

  wakeAll(upTo: string): void {
    for (const { wakes } of [...this.#groups.values()]) for (const wake of [...wakes]) wake(upTo)
  }
}

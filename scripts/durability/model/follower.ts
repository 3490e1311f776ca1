import { setTimeout as sleep } from 'node:timers/promises'
import { compareCursors, type Shown } from './contents.ts'
import { type History, identityOf, isRemovable } from './history.ts'
import type { Random } from './random.ts'
import type { Reading } from './reading.ts'
import type { StoredRow } from './verdict.ts'

/**
 * Follows the feed from its beginning: each page starts after the last record of the page before. A second reader starts again
 * and again from a cursor that the first has passed, and must be shown the same records.
 */
export class Follower {
  readonly #history: History
  readonly #first: Reading
  readonly #second: Reading
  readonly #random: Random
  readonly #seen: Shown[] = []
  /** The last page was full. */
  #behind = true
  /** What the second reader was shown: it started after the record at index `from` of #seen. */
  readonly #again: { from: number; shown: Shown[] }[] = []

  constructor(history: History, reading: () => Reading, random: Random) {
    this.#history = history
    this.#first = reading()
    this.#second = reading()
    this.#random = random
  }

  async follow(stop: AbortSignal): Promise<void> {
    await Promise.all([this.#follow(this.#random.fork(), stop), this.#restart(this.#random.fork(), stop)])
  }

  /** Reads until there is nothing new. */
  async readToEnd(): Promise<void> {
    while (await this.#readOn(this.#random)) {}
  }

  /** Reads until all these were shown, or nothing new comes for so long. */
  async finish(rows: StoredRow[], patienceMs: number): Promise<void> {
    let last = performance.now()
    while (this.#isToCome(rows) && performance.now() - last < patienceMs) {
      if (await this.#readOn(this.#random)) last = performance.now()
      else await sleep(50)
    }
    this.#first.close()
    this.#second.close()
  }

  judge(rows: StoredRow[]): void {
    const indexes = new Map(this.#seen.map(({ cursor }, index) => [cursor, index]))
    for (const { identity, cursor } of rows) {
      if (!indexes.has(cursor)) this.#history.complain('A follower is shown every record.', `at ${cursor}`, identity)
    }
    for (const { from, shown } of this.#again) {
      const cursors = new Set(shown.map(({ cursor }) => cursor))
      const last = indexes.get(shown.at(-1)?.cursor ?? '')
      for (const record of shown) {
        // What retention removed before the first reader came there is shown to the second alone.
        if (indexes.has(record.cursor) || isRemovable(nameOf(record))) continue
        const detail = `at ${record.cursor}, after ${this.#seen[from]?.cursor}`
        this.#history.complain('Who reads again is shown nothing new among the old.', detail, nameOf(record))
      }
      for (const record of this.#seen.slice(from + 1, last === undefined ? from + 1 : last + 1)) {
        if (cursors.has(record.cursor) || isRemovable(nameOf(record))) continue
        const detail = `at ${record.cursor}, after ${this.#seen[from]?.cursor}`
        this.#history.complain('Who reads again is shown all that was shown before.', detail, nameOf(record))
      }
    }
  }

  async #follow(random: Random, stop: AbortSignal): Promise<void> {
    while (!stop.aborted) {
      const begin = this.#history.now()
      const more = await this.#readOn(random)
      if (more !== undefined) this.#history.moments.happened('followed', begin)
      if (!more) await sleep(random.int(0, 20))
    }
  }

  async #restart(random: Random, stop: AbortSignal): Promise<void> {
    for (; !stop.aborted; await sleep(random.int(0, 200))) {
      if (this.#seen.length === 0) continue
      const from = random.int(0, this.#seen.length - 1)
      const { cursor } = this.#seen[from] as Shown
      const shown = await this.#second.page({ order: 'asc', limit: random.pick([10, 300]), cursor })
      if (shown !== undefined) this.#again.push({ from, shown })
    }
  }

  /** Is one of these further on than the last record that was shown? One before it is not shown any more. */
  #isToCome(rows: StoredRow[]): boolean {
    const last = this.#seen.at(-1)?.cursor
    return rows.some(({ cursor }) => last === undefined || compareCursors(cursor, last) > 0)
  }

  /**
   * Small pages at the end of the feed, where a record can be shown too early; large ones to get there.
   * @returns whether there was something new; nothing where the page was refused or cut
   */
  async #readOn(random: Random): Promise<boolean | undefined> {
    const limit = this.#behind ? 1000 : random.int(1, 20)
    const page = await this.#first.page({ order: 'asc', limit, cursor: this.#seen.at(-1)?.cursor })
    if (page === undefined) return undefined
    this.#behind = page.length === limit
    this.#seen.push(...page)
    return page.length > 0
  }
}

const nameOf = ({ source, id }: Shown): string => identityOf(source, id)

import { setTimeout as sleep } from 'node:timers/promises'
import { compareCursors, type Shown } from './contents.ts'
import { type History, identityOf, isDeletable } from './history.ts'
import { judgeFollower } from './judge-follower.ts'
import type { Random } from './random.ts'
import type { Reading } from './reading.ts'
import type { StoredRow } from './verdict.ts'

/**
 * Follows the list from the beginning of the feed: each page starts after the last record of the previous page. A second reader repeatedly starts
 * from a cursor that the first reader has passed, and must see the same records.
 */
export class ListFollower {
  readonly #history: History
  readonly #first: Reading
  readonly #second: Reading
  readonly #random: Random
  readonly #seen: Shown[] = []
  /** The last page was full. */
  #behind = true
  /** The pages of the second reader. Each starts after the record at index `from` of #seen. */
  readonly #rereads: { from: number; shown: Shown[] }[] = []

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
    while (await this.#readPage(this.#random)) {}
  }

  /** Reads until it has seen all these rows, or until it has seen nothing new for `patienceMs`. */
  async finish(rows: StoredRow[], patienceMs: number): Promise<void> {
    let last = performance.now()
    while (this.#hasUnseen(rows) && performance.now() - last < patienceMs) {
      if (await this.#readPage(this.#random)) last = performance.now()
      else await sleep(50)
    }
    this.#first.close()
    this.#second.close()
  }

  judge(rows: StoredRow[]): void {
    judgeFollower(this.#history, rows, { name: 'the list', shown: this.#seen })
    const indexes = new Map(this.#seen.map(({ cursor }, index) => [cursor, index]))
    for (const { from, shown } of this.#rereads) {
      const cursors = new Set(shown.map(({ cursor }) => cursor))
      const last = indexes.get(shown.at(-1)?.cursor ?? '')
      for (const record of shown) {
        // Retention can delete a record after the second reader has seen it, but before the first one gets there.
        if (indexes.has(record.cursor) || isDeletable(nameOf(record))) continue
        const detail = `at ${record.cursor}, after ${this.#seen[from]?.cursor}`
        this.#history.complain('Reading again must not show new records before old ones.', detail, nameOf(record))
      }
      for (const record of this.#seen.slice(from + 1, last === undefined ? from + 1 : last + 1)) {
        if (cursors.has(record.cursor) || isDeletable(nameOf(record))) continue
        const detail = `at ${record.cursor}, after ${this.#seen[from]?.cursor}`
        this.#history.complain('Reading again must show all records that were shown before.', detail, nameOf(record))
      }
    }
  }

  async #follow(random: Random, stop: AbortSignal): Promise<void> {
    while (!stop.aborted) {
      const begin = this.#history.now()
      const more = await this.#readPage(random)
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
      if (shown !== undefined) this.#rereads.push({ from, shown })
    }
  }

  /** Whether one of these rows is after the last record that it saw. Rows before that record cannot appear any more. */
  #hasUnseen(rows: StoredRow[]): boolean {
    const last = this.#seen.at(-1)?.cursor
    return rows.some(({ cursor }) => last === undefined || compareCursors(cursor, last) > 0)
  }

  /**
   * Reads the next page: a small one at the end of the feed, where a record can appear too early, and a large one to get there.
   * @returns whether there was a new record; undefined if the request failed
   */
  async #readPage(random: Random): Promise<boolean | undefined> {
    const limit = this.#behind ? 1000 : random.int(1, 20)
    const page = await this.#first.page({ order: 'asc', limit, cursor: this.#seen.at(-1)?.cursor })
    if (page === undefined) return undefined
    this.#behind = page.length === limit
    this.#seen.push(...page)
    return page.length > 0
  }
}

const nameOf = ({ source, id }: Shown): string => identityOf(source, id)

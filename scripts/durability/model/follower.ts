import { setTimeout as sleep } from 'node:timers/promises'
import type { Shown } from './contents.ts'
import { type History, identityOf, isRemovable } from './history.ts'
import type { Random } from './random.ts'
import type { Reading } from './reading.ts'
import type { StoredRow } from './verdict.ts'

/** The place in the feed is in a cursor's first 20 bytes, so that they sort as it does. */
const compare = (one: string, other: string): number =>
  Buffer.compare(Buffer.from(one, 'base64url').subarray(0, 20), Buffer.from(other, 'base64url').subarray(0, 20))

/**
 * Follows the feed from its beginning: each page from the cursor of the last record. What a second reader, who goes back to
 * an earlier cursor ever so often, is shown from there on is compared with it.
 */
export class Follower {
  readonly #history: History
  readonly #reading: Reading
  readonly #random: Random
  readonly #seen: Shown[] = []
  /** What was shown to those who went back: from which record on, and to which. */
  readonly #again: { from: number; shown: Shown[] }[] = []

  constructor(history: History, reading: Reading, random: Random) {
    this.#history = history
    this.#reading = reading
    this.#random = random
  }

  async follow(stop: AbortSignal): Promise<void> {
    while (!stop.aborted) {
      const more = await this.#readOn()
      if (!more) await sleep(this.#random.int(0, 20))
      if (this.#seen.length > 0 && this.#random.chance(0.1)) await this.#goBack()
    }
  }

  /** Reads until all these were shown, or nothing new comes for so long. */
  async finish(rows: StoredRow[], patienceMs: number): Promise<void> {
    let last = performance.now()
    while (!this.#hasSeen(rows) && performance.now() - last < patienceMs) {
      if (await this.#readOn()) last = performance.now()
      else await sleep(50)
    }
    this.#reading.close()
  }

  judge(rows: StoredRow[]): void {
    const places = new Map(this.#seen.map(({ cursor }, index) => [cursor, index]))
    for (const { identity, cursor } of rows) {
      if (!places.has(cursor)) this.#history.complain('A follower is shown every record.', `at ${cursor}`, identity)
    }
    for (const { from, shown } of this.#again) {
      const cursors = new Set(shown.map(({ cursor }) => cursor))
      const last = places.get(shown.at(-1)?.cursor ?? '')
      for (const record of shown) {
        if (places.has(record.cursor)) continue
        const detail = `at ${record.cursor}, after ${this.#seen[from]?.cursor}`
        this.#history.complain('Who goes back is shown what he was shown before.', detail, nameOf(record))
      }
      for (const record of this.#seen.slice(from + 1, last === undefined ? from + 1 : last + 1)) {
        if (cursors.has(record.cursor) || isRemovable(nameOf(record))) continue
        this.#history.complain(
          'Who goes back is shown all that he was shown before.',
          `at ${record.cursor}`,
          nameOf(record),
        )
      }
    }
  }

  #hasSeen(rows: StoredRow[]): boolean {
    const cursors = new Set(this.#seen.map(({ cursor }) => cursor))
    return rows.every(({ cursor }) => cursors.has(cursor))
  }

  /** Mostly by large pages: only who is at the end of the feed can be shown a record too early. */
  async #readOn(): Promise<boolean> {
    const last = this.#seen.at(-1)
    const page = await this.#reading.page({
      order: 'asc',
      limit: this.#random.chance(0.1) ? this.#random.int(1, 7) : 1000,
      cursor: last?.cursor,
    })
    if (page === undefined) return false
    this.#judgeOrder(last, page)
    this.#seen.push(...page)
    return page.length > 0
  }

  async #goBack(): Promise<void> {
    const from = this.#random.int(0, this.#seen.length - 1)
    const cursor = (this.#seen[from] as Shown).cursor
    const page = await this.#reading.page({ order: 'asc', limit: this.#random.pick([10, 300]), cursor })
    if (page === undefined) return
    this.#judgeOrder(this.#seen[from], page)
    this.#again.push({ from, shown: page })
  }

  #judgeOrder(last: Shown | undefined, page: Shown[]): void {
    let before = last
    for (const record of page) {
      if (before !== undefined && compare(before.cursor, record.cursor) >= 0)
        this.#history.complain('The feed goes upwards.', `${before.cursor}, then ${record.cursor}`, nameOf(record))
      before = record
    }
  }
}

const nameOf = ({ source, id }: Shown): string => identityOf(source, id)

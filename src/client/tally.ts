import type { Chunk } from './chunks.ts'
import type { Counts, Stored } from './store-lines.ts'

/** What became of the lines of all inputs. */
export class Tally {
  readonly counts: Counts = { created: 0, duplicate: 0, conflict: 0, rejected: 0 }
  /** Lines that are dealt with, blank ones too. */
  lines = 0
  /** Refused lines that the server counted and did not name. */
  unnamed = 0
  /** Duplicates of which nobody knows whether an earlier request of this run stored them: its answer was lost. */
  perhapsOurs = 0
  /** All before this place is dealt with. */
  reached: { name: string; line: number } | undefined
  /** Those that have a gap before them. */
  readonly #done = new Map<number, Chunk>()
  #next = 0

  get records(): number {
    return this.stored + this.refused
  }

  get stored(): number {
    return this.counts.created + this.counts.duplicate
  }

  get refused(): number {
    return this.counts.conflict + this.counts.rejected
  }

  /** A chunk is dealt with. Chunks overtake each other: what has a gap before it is counted, but not called reached. */
  add(chunk: Chunk, { counts, unnamed, unheard }: Stored): void {
    for (const status of Object.keys(counts) as (keyof Counts)[]) this.counts[status] += counts[status]
    this.counts.rejected += chunk.unsendable.length
    this.lines += chunk.reached - chunk.after
    this.unnamed += unnamed
    if (unheard) this.perhapsOurs += counts.duplicate
    this.#done.set(chunk.ordinal, chunk)
    for (let done = this.#done.get(this.#next); done !== undefined; done = this.#done.get(++this.#next)) {
      this.#done.delete(this.#next)
      this.reached = { name: done.input.name, line: done.reached }
    }
  }
}

import type { Counts } from '../schemas/results.ts'
import type { RequestChunk } from './chunks.ts'
import type { Stored } from './store-lines.ts'

/** The results of the lines of all inputs. */
export class Tally {
  readonly counts: Counts = { created: 0, duplicate: 0, conflict: 0, rejected: 0 }
  /** Lines that are processed, including blank ones. */
  lines = 0
  /** Number of further rejected lines, which the server counted but did not list. */
  unlisted = 0
  /** Duplicates that an earlier request of this run may have stored: its response was lost. */
  possiblyCreated = 0
  /** All lines up to this one are processed. */
  reached: { name: string; line: number } | undefined
  /** Chunks that are done, but not all chunks before them. */
  readonly #done = new Map<number, RequestChunk>()
  #next = 0

  get records(): number {
    return this.stored + this.notStored
  }

  get stored(): number {
    return this.counts.created + this.counts.duplicate
  }

  get notStored(): number {
    return this.counts.conflict + this.counts.rejected
  }

  /** Adds a chunk that is done. Chunks overtake each other: `reached` moves only when all earlier chunks are done. */
  add(chunk: RequestChunk, { counts, unlisted, outcomeUnknown }: Stored): void {
    for (const status of Object.keys(counts) as (keyof Counts)[]) this.counts[status] += counts[status]
    this.counts.rejected += chunk.lines.filter(({ reason }) => reason !== undefined).length
    this.lines += chunk.reached - chunk.after
    this.unlisted += unlisted
    if (outcomeUnknown) this.possiblyCreated += counts.duplicate
    this.#done.set(chunk.ordinal, chunk)
    for (let done = this.#done.get(this.#next); done !== undefined; done = this.#done.get(++this.#next)) {
      this.#done.delete(this.#next)
      this.reached = { name: done.input.name, line: done.reached }
    }
  }
}

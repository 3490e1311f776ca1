import { Problem } from '../problems.ts'

/** Limits live readers, in total and for each API key. */
export class ReaderLimit {
  readonly max: number
  #total = 0
  /** Only keys with readers. */
  readonly #byKey = new Map<string, number>()

  constructor(max: number) {
    this.max = max
  }

  get used(): number {
    return this.#total
  }

  /**
   * A key may have as many readers as remain free for the others: one key alone has half of them (lib/memory-budget.ts has the same
   * rule).
   * @param key the id of the API key
   * @returns a function to call once, when the reader ends
   * @throws Problem overloaded
   */
  enter(key: string): () => void {
    const held = this.#byKey.get(key) ?? 0
    const free = this.max - this.#total
    if (free <= 0 || held >= free) {
      const who = free <= 0 ? 'All' : `The API key ${key} already uses its share of the`
      throw new Problem('overloaded', `${who} ${this.max} live readers of this instance are in use. Try again later.`)
    }
    this.#change(key, 1)
    return () => this.#change(key, -1)
  }

  #change(key: string, by: number): void {
    this.#total += by
    const held = (this.#byKey.get(key) ?? 0) + by
    if (held > 0) this.#byKey.set(key, held)
    else this.#byKey.delete(key)
  }
}

/** What one owner has waiting, in order of arrival. */
class Line<T> {
  #items: (T | undefined)[] = []
  #first = 0

  get first(): T | undefined {
    return this.#items[this.#first]
  }

  get items(): T[] {
    return this.#items.slice(this.#first) as T[]
  }

  push(item: T): void {
    this.#items.push(item)
  }

  /** @returns false when it is not among them */
  remove(item: T): boolean {
    const at = this.#items.indexOf(item, this.#first)
    if (at >= 0) this.#items.splice(at, 1)
    return at >= 0
  }

  /** Removes the first item. To move the others each time would take longer the more of them wait. */
  shift(): void {
    // Its memory is reserved by nobody once it is taken, however long the others wait.
    this.#items[this.#first++] = undefined
    if (this.#first * 2 < this.#items.length) return
    this.#items = this.#items.slice(this.#first)
    this.#first = 0
  }
}

/**
 * A queue in which owners (API keys) take turns: one item each, and first the owner whose last turn is longest ago. However
 * many items an owner has, another owner's item comes after at most one of them.
 */
export class RoundRobin<T> {
  /** By owner, in the order of their last turns; owners without an item are not in it. */
  readonly #lines = new Map<string, Line<T>>()

  get isEmpty(): boolean {
    return this.#lines.size === 0
  }

  /** The first items of all owners: the oldest is among them. */
  get heads(): T[] {
    return [...this.#lines.values()].map(({ first }) => first as T)
  }

  get all(): T[] {
    return [...this.#lines.values()].flatMap(({ items }) => items)
  }

  push(owner: string, item: T): void {
    let line = this.#lines.get(owner)
    if (line === undefined) {
      line = new Line()
      this.#lines.set(owner, line)
    }
    line.push(item)
  }

  /**
   * Removes items turn by turn, each when the caller asks for it.
   * @param fits an owner whose item does not fit is passed over this time, and keeps its place in the order
   */
  *take(fits: (item: T) => boolean = () => true): Generator<T, void> {
    // An owner that goes to the end of the map comes again in this loop.
    for (const [owner, line] of this.#lines) {
      const item = line.first as T
      if (!fits(item)) continue
      line.shift()
      this.#lines.delete(owner)
      if (line.first !== undefined) this.#lines.set(owner, line)
      yield item
    }
  }

  /** Removes an item, wherever it is. This is nobody's turn. @returns false when it does not wait */
  remove(owner: string, item: T): boolean {
    const line = this.#lines.get(owner)
    if (line === undefined || !line.remove(item)) return false
    if (line.first === undefined) this.#lines.delete(owner)
    return true
  }

  /** Removes from each owner the first items, as long as they match. This is nobody's turn. */
  drop(matches: (item: T) => boolean): T[] {
    const dropped: T[] = []
    for (const [owner, line] of this.#lines) {
      for (let { first } = line; first !== undefined && matches(first); first = line.first) {
        line.shift()
        dropped.push(first)
      }
      if (line.first === undefined) this.#lines.delete(owner)
    }
    return dropped
  }
}

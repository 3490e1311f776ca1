/** The items of one owner, in order of arrival. */
class OwnerQueue<T> {
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

  /** @returns false if the item is not in this queue */
  remove(item: T): boolean {
    const at = this.#items.indexOf(item, this.#first)
    if (at >= 0) this.#items.splice(at, 1)
    return at >= 0
  }

  /** Removes the first item. Does not move the others each time: that would be slow for a long queue. */
  shift(): void {
    // Drop the reference: nothing reserves memory for an item that was taken, and the others may wait for long.
    this.#items[this.#first++] = undefined
    if (this.#first * 2 < this.#items.length) return
    this.#items = this.#items.slice(this.#first)
    this.#first = 0
  }
}

/**
 * A queue in which owners (API keys) take turns, one item per turn. The owner whose last turn is longest ago comes first. However
 * many items one owner has, an item of another owner comes after at most one of them.
 */
export class RoundRobin<T> {
  /** By owner, in the order of their last turns. Contains only owners with items. */
  readonly #queues = new Map<string, OwnerQueue<T>>()

  get isEmpty(): boolean {
    return this.#queues.size === 0
  }

  /** The first item of each owner. The oldest item is one of them. */
  get heads(): T[] {
    return [...this.#queues.values()].map(({ first }) => first as T)
  }

  get all(): T[] {
    return [...this.#queues.values()].flatMap(({ items }) => items)
  }

  push(owner: string, item: T): void {
    let queue = this.#queues.get(owner)
    if (queue === undefined) {
      queue = new OwnerQueue()
      this.#queues.set(owner, queue)
    }
    queue.push(item)
  }

  /**
   * Removes items turn by turn, each one when the caller requests it.
   * @param fits an owner whose item does not fit is skipped this time and keeps its rank in the order
   */
  *take(fits: (item: T) => boolean = () => true): Generator<T, void> {
    // This loop visits an owner again after it was moved to the end of the map.
    for (const [owner, queue] of this.#queues) {
      const item = queue.first as T
      if (!fits(item)) continue
      queue.shift()
      this.#queues.delete(owner)
      if (queue.first !== undefined) this.#queues.set(owner, queue)
      yield item
    }
  }

  /** Removes an item, wherever it is. This does not count as a turn. @returns false if it is not in the queue */
  remove(owner: string, item: T): boolean {
    const queue = this.#queues.get(owner)
    if (queue === undefined || !queue.remove(item)) return false
    if (queue.first === undefined) this.#queues.delete(owner)
    return true
  }

  /** Removes the first items of each owner as long as they match. This does not count as a turn. */
  drop(matches: (item: T) => boolean): T[] {
    const dropped: T[] = []
    for (const [owner, queue] of this.#queues) {
      for (let { first } = queue; first !== undefined && matches(first); first = queue.first) {
        queue.shift()
        dropped.push(first)
      }
      if (queue.first === undefined) this.#queues.delete(owner)
    }
    return dropped
  }
}

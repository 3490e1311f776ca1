import type { Waiting } from './waiting.ts'

/**
 * Requests that wait for a flush. Each API key has a queue of its own, in order of arrival, and the keys take turns: one
 * request each. However many requests a key sends, another key's request is in one of the next flushes.
 */
export class FairQueue {
  /** By key, in the order of their turns; keys without a request are not in it. */
  readonly #queues = new Map<string, Waiting[]>()
  #length = 0
  #rows = 0

  /** Requests. */
  get length(): number {
    return this.#length
  }

  get rows(): number {
    return this.#rows
  }

  /** The first requests of all keys: the oldest is among them. */
  get heads(): Waiting[] {
    return [...this.#queues.values()].map((queue) => queue[0] as Waiting)
  }

  push(request: Waiting): void {
    const queue = this.#queues.get(request.key)
    if (queue === undefined) this.#queues.set(request.key, [request])
    else queue.push(request)
    this.#length++
    this.#rows += request.rows.length
  }

  /**
   * Takes the requests of the next flush: at least one, then as many as fit, whole. A strict request goes alone.
   * The key that has waited longest for its turn comes first, and its first request is taken whatever its size: so a request
   * that does not fit beside others cannot be passed over for ever.
   */
  take(maxRows: number, maxBytes: number): Waiting[] {
    const taken: Waiting[] = []
    let [rows, bytes, before] = [0, 0, -1]
    while (taken.length > before) {
      before = taken.length
      for (const [key, queue] of [...this.#queues]) {
        const request = queue[0] as Waiting
        const fits = rows + request.rows.length <= maxRows && bytes + request.bytes <= maxBytes && !request.strict
        if (taken.length > 0 && !fits) continue
        this.#remove(key, queue, 1)
        taken.push(request)
        if (request.strict) return taken
        rows += request.rows.length
        bytes += request.bytes
      }
    }
    return taken
  }

  /** Takes the requests whose deadline has passed. */
  takeLate(now: number): Waiting[] {
    return [...this.#queues].flatMap(([key, queue]) => {
      const first = queue.findIndex(({ deadline }) => deadline > now)
      return this.#remove(key, queue, first === -1 ? queue.length : first)
    })
  }

  /** Removes the first requests of a key, which then waits for its next turn behind the others. */
  #remove(key: string, queue: Waiting[], count: number): Waiting[] {
    if (count === 0) return []
    const removed = queue.splice(0, count)
    if (queue.length === 0 || this.#queues.size > 1) this.#queues.delete(key)
    if (queue.length > 0) this.#queues.set(key, queue)
    this.#length -= count
    for (const { rows } of removed) this.#rows -= rows.length
    return removed
  }
}

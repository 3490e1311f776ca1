import { RoundRobin } from '../lib/round-robin.ts'
import type { Waiting } from './waiting.ts'

/**
 * Requests that wait for a flush, in which the API keys take turns: however many requests a key sends, another key's request
 * is in one of the next flushes.
 */
export class FairQueue {
  readonly #requests = new RoundRobin<Waiting>()
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
    return this.#requests.heads
  }

  get all(): Waiting[] {
    return this.#requests.all
  }

  push(request: Waiting): void {
    this.#requests.push(request.key, request)
    this.#length++
    this.#rows += request.rows.length
  }

  /**
   * Takes the requests of the next flush: one whatever its size, then as many as fit, whole. A strict request goes alone.
   * What does not fit is first the next time, since its key's last turn is longest ago then.
   */
  take(maxRows: number, maxBytes: number): Waiting[] {
    const taken: Waiting[] = []
    let [rows, bytes] = [0, 0]
    const fits = (request: Waiting) =>
      taken.length === 0 ||
      (rows + request.rows.length <= maxRows && bytes + request.bytes <= maxBytes && !request.strict)
    for (const request of this.#requests.take(fits)) {
      taken.push(request)
      if (request.strict) break
      rows += request.rows.length
      bytes += request.bytes
    }
    return this.#noteRemoved(taken)
  }

  /** Takes the requests whose deadline has passed. */
  takeLate(now: number): Waiting[] {
    return this.#noteRemoved(this.#requests.drop(({ deadline }) => deadline <= now))
  }

  /** Removes a request, wherever in the queue it is. @returns false when it is not in the queue */
  remove(request: Waiting): boolean {
    const isRemoved = this.#requests.remove(request.key, request)
    if (isRemoved) this.#noteRemoved([request])
    return isRemoved
  }

  #noteRemoved(requests: Waiting[]): Waiting[] {
    for (const { rows } of requests) this.#rows -= rows.length
    this.#length -= requests.length
    return requests
  }
}

import { RoundRobin } from '../lib/round-robin.ts'
import type { WaitingRequest } from './waiting-request.ts'

/**
 * Requests that wait for a flush. The API keys take turns: however many requests one key sends, a request of another key
 * waits for at most one more of them.
 */
export class FairQueue {
  readonly #requests = new RoundRobin<WaitingRequest>()
  #length = 0
  #rows = 0

  /** Number of requests. */
  get length(): number {
    return this.#length
  }

  get rows(): number {
    return this.#rows
  }

  /** The first request of each key. The oldest request is one of them. */
  get heads(): WaitingRequest[] {
    return this.#requests.heads
  }

  get all(): WaitingRequest[] {
    return this.#requests.all
  }

  push(request: WaitingRequest): void {
    this.#requests.push(request.key, request)
    this.#length++
    this.#rows += request.rows.length
  }

  /**
   * Takes the requests of the next flush: one of any size, then as many whole requests as fit. A strict request is a flush of
   * its own. A request that does not fit comes first next time, because its key has then waited longest for a turn.
   */
  take(maxRows: number, maxBytes: number): WaitingRequest[] {
    const taken: WaitingRequest[] = []
    let [rows, bytes] = [0, 0]
    const fits = (request: WaitingRequest) =>
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

  /** Takes the requests whose hold window is over. */
  takeExpired(now: number): WaitingRequest[] {
    return this.#noteRemoved(this.#requests.drop(({ deadline }) => deadline <= now))
  }

  /** Removes a request, wherever it is in the queue. @returns false if it is not in the queue */
  remove(request: WaitingRequest): boolean {
    const isRemoved = this.#requests.remove(request.key, request)
    if (isRemoved) this.#noteRemoved([request])
    return isRemoved
  }

  #noteRemoved(requests: WaitingRequest[]): WaitingRequest[] {
    for (const { rows } of requests) this.#rows -= rows.length
    this.#length -= requests.length
    return requests
  }
}

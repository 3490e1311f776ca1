import { EventEmitter, on } from 'node:events'

/** acknowledged: a record of a request was acknowledged. followed: the follower of the list got its next page, which may be empty. */
type Moment = 'acknowledged' | 'followed'

/** Events that slow writers and faults wait for. Times are those of the history. */
export class Moments {
  readonly #now: () => number
  readonly #emitter = new EventEmitter().setMaxListeners(0)

  constructor(now: () => number) {
    this.#now = now
  }

  /** @param begin the time at which the request began */
  happened(moment: Moment, begin: number): void {
    this.#emitter.emit(moment, begin)
  }

  /** Waits for an event of a request that begins after this call, or for `patienceMs`: during an outage there may be none. */
  async next(moment: Moment, patienceMs: number): Promise<void> {
    const now = this.#now()
    try {
      const moments = on(this.#emitter, moment, { signal: AbortSignal.timeout(patienceMs) })
      for await (const [begin] of moments) if (begin > now) return
    } catch (error) {
      if ((error as Error).name !== 'AbortError') throw error
    }
  }
}

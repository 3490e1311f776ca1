import { EventEmitter, on } from 'node:events'

/** A record of a request was acknowledged; the follower was shown the next page, which may be empty. */
export type Moment = 'acknowledged' | 'followed'

/** What those who write or break things wait for. Times are milliseconds of the history. */
export class Moments {
  readonly #now: () => number
  readonly #emitter = new EventEmitter().setMaxListeners(0)

  constructor(now: () => number) {
    this.#now = now
  }

  /** @param begin of the request */
  happened(moment: Moment, begin: number): void {
    this.#emitter.emit(moment, begin)
  }

  /** Waits for a request that begins from now on. While PostgreSQL is away there is none, so the wait ends after `patienceMs`. */
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

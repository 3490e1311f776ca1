import { Problem } from './problems.ts'

interface Owner {
  /** Places that it has. */
  running: number
  /** Those that wait for a place, in the order in which they came; each is called to begin. */
  readonly waiting: Set<() => void>
}

/** How one waits. */
export interface Wait {
  /** Ends the wait. */
  signal: AbortSignal
  /** In milliseconds; absent: as long as it takes. */
  maxMs?: number
}

/**
 * Lets a bounded number of pieces of work run at once, and shares the places between API keys. The key that has the fewest
 * places is next; among equals it is the one whose last turn ended longest ago.
 *
 * A key that has places gets another one only if at least as many stay free as it has (the rule of budget.ts). One key
 * alone can take three of five places, and a key that comes later finds a free one.
 */
export class Turnstile {
  readonly places: number
  readonly #refusal: string
  #free: number
  /** Those that run or wait, by the end of their last turn. */
  readonly #owners = new Map<string, Owner>()

  /** @param refusal what to say to those that have waited too long */
  constructor(places: number, refusal: string) {
    this.places = places
    this.#free = places
    this.#refusal = refusal
  }

  /** How many pieces of work wait. */
  get waiting(): number {
    return [...this.#owners.values()].reduce((sum, { waiting }) => sum + waiting.size, 0)
  }

  /**
   * Runs `work` when it is its turn.
   * @param id of the API key
   * @throws Problem overloaded after `maxMs`; the reason of `signal`; what `work` throws
   */
  async pass<T>(id: string, wait: Wait, work: () => Promise<T>): Promise<T> {
    await this.#enter(id, wait)
    try {
      return await work()
    } finally {
      this.#free++
      const owner = this.#owners.get(id) as Owner
      owner.running--
      // To the end of the order; for good when nothing else waits.
      this.#owners.delete(id)
      if (!isIdle(owner)) this.#owners.set(id, owner)
      this.#admit()
    }
  }

  async #enter(id: string, { signal, maxMs }: Wait): Promise<void> {
    signal.throwIfAborted()
    const owner = this.#owners.get(id) ?? { running: 0, waiting: new Set() }
    this.#owners.set(id, owner)
    const turn = Promise.withResolvers<void>()
    owner.waiting.add(turn.resolve)
    this.#admit()
    if (!owner.waiting.has(turn.resolve)) return

    const stop = (error: unknown) => {
      // Here and not after the promise: a place that becomes free meanwhile must not go to this one.
      owner.waiting.delete(turn.resolve)
      if (isIdle(owner)) this.#owners.delete(id)
      turn.reject(error)
    }
    const left = () => stop(signal.reason)
    signal.addEventListener('abort', left)
    const late = () => stop(new Problem('overloaded', this.#refusal))
    const timer = maxMs === undefined ? undefined : setTimeout(late, maxMs)
    try {
      await turn.promise
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', left)
    }
  }

  #admit(): void {
    for (let owner = this.#next(); owner !== undefined; owner = this.#next()) {
      const [begin] = owner.waiting as Set<() => void>
      owner.waiting.delete(begin as () => void)
      this.#free--
      owner.running++
      begin?.()
    }
  }

  #next(): Owner | undefined {
    let next: Owner | undefined
    for (const owner of this.#owners.values()) {
      if (owner.waiting.size > 0 && (next === undefined || owner.running < next.running)) next = owner
    }
    return next !== undefined && next.running < this.#free ? next : undefined
  }
}

const isIdle = ({ running, waiting }: Owner) => running === 0 && waiting.size === 0

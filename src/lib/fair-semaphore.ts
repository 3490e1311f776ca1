import { Problem } from '../problems.ts'

interface Owner {
  /** How many of its pieces of work run. */
  running: number
  /** Its pieces of work that wait, in order of arrival. Each is a function to call when it may run. */
  readonly waiting: Set<() => void>
}

/** How long a piece of work waits. */
interface Wait {
  /** Ends the wait. */
  signal: AbortSignal
  /** In milliseconds. Without it, there is no limit. */
  maxMs?: number
}

/**
 * A semaphore that shares its permits between API keys. The key with the fewest permits is next; among equals, the one whose
 * last turn ended longest ago.
 *
 * A key gets another permit only if more are free than it has (the rule of memory-budget.ts). One key alone can take three
 * of five permits, and another key still finds a free one.
 */
export class FairSemaphore {
  readonly #refusal: string
  #free: number
  /** Owners with running or waiting work, in the order in which their last turns ended. */
  readonly #owners = new Map<string, Owner>()

  /**
   * @param permits how many pieces of work may run at the same time
   * @param refusal detail of the problem for work that has waited too long
   */
  constructor(permits: number, refusal: string) {
    this.#free = permits
    this.#refusal = refusal
  }

  /** Number of waiting pieces of work. */
  get waiting(): number {
    return [...this.#owners.values()].reduce((sum, { waiting }) => sum + waiting.size, 0)
  }

  /**
   * Runs `work` as soon as it gets a permit.
   * @param id id of the API key
   * @throws Problem overloaded after `maxMs`; the reason of `signal`; what `work` throws
   */
  async run<T>(id: string, wait: Wait, work: () => Promise<T>): Promise<T> {
    await this.#enter(id, wait)
    try {
      return await work()
    } finally {
      this.#free++
      const owner = this.#owners.get(id) as Owner
      owner.running--
      // Move the owner to the end of the order, or remove it if it is idle.
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
      // Do this here, before the promise settles: a permit that becomes free meanwhile must not go to this work.
      owner.waiting.delete(turn.resolve)
      if (isIdle(owner)) this.#owners.delete(id)
      turn.reject(error)
    }
    const onAbort = () => stop(signal.reason)
    signal.addEventListener('abort', onAbort)
    const onTimeout = () => stop(new Problem('overloaded', this.#refusal))
    const timer = maxMs === undefined ? undefined : setTimeout(onTimeout, maxMs)
    try {
      await turn.promise
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
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

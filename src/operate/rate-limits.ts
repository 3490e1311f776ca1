import { Problem } from '../lib/problems.ts'
import type { Key } from './keys.ts'

/** A key that was quiet for this long may send this many seconds' worth at once. */
const BURST_SECONDS = 10

/** The limits of the keys that have one. In memory, and so each instance counts by itself. */
export class RateLimits {
  readonly #default: number | undefined
  readonly #limits = new Map<string, RateLimit>()

  /** @param recordsPerSecond for keys without a rate of their own; undefined: no limit */
  constructor(recordsPerSecond: number | undefined) {
    this.#default = recordsPerSecond
  }

  /** undefined: the key has none. */
  of(key: Key): RateLimit | undefined {
    const rate = key.recordsPerSecond ?? this.#default
    if (rate === undefined) return undefined
    const known = this.#limits.get(key.id)
    if (known?.recordsPerSecond === rate) return known
    const limit = new RateLimit(rate)
    this.#limits.set(key.id, limit)
    return limit
  }
}

/**
 * A token bucket of records. How many a request brings is known only when its body was read, and to refuse it then would
 * be late: so a request is let in while anything is left, and what it brought beyond that is owed. The next one waits
 * until it is paid. Over time that is the rate, whatever the sizes of the batches.
 */
export class RateLimit {
  readonly recordsPerSecond: number
  readonly #capacity: number
  /** Below nought: owed. */
  #left: number
  #at = performance.now()

  constructor(recordsPerSecond: number) {
    this.recordsPerSecond = recordsPerSecond
    this.#capacity = recordsPerSecond * BURST_SECONDS
    this.#left = this.#capacity
  }

  /** Lets a request in, and counts one record for it. @throws Problem rate_limited */
  admit(): void {
    if (this.waitMs > 0) {
      throw new Problem('rate_limited', `This key may send ${this.recordsPerSecond} records a second.`, {
        headers: { 'retry-after': String(Math.ceil(this.waitMs / 1000)), ...this.headers },
      })
    }
    this.charge(1)
  }

  charge(records: number): void {
    this.#refill()
    this.#left -= records
  }

  /** How long until a record may be sent. */
  get waitMs(): number {
    this.#refill()
    return Math.max(0, (1 - this.#left) / this.recordsPerSecond) * 1000
  }

  /**
   * draft-ietf-httpapi-ratelimit-headers-11. The policy's name says what is counted: the registered units, among which
   * are no records, are the only ones that `qu` may name.
   */
  get headers(): Record<string, string> {
    this.#refill()
    const left = Math.max(0, Math.floor(this.#left))
    // Until one may be sent again, which is what Retry-After says; else until all are there.
    const seconds = left === 0 ? this.waitMs / 1000 : (this.#capacity - this.#left) / this.recordsPerSecond
    return {
      'ratelimit-policy': `"records";q=${this.#capacity};w=${BURST_SECONDS}`,
      ratelimit: `"records";r=${left};t=${Math.ceil(seconds)}`,
    }
  }

  #refill(): void {
    const now = performance.now()
    this.#left = Math.min(this.#capacity, this.#left + ((now - this.#at) / 1000) * this.recordsPerSecond)
    this.#at = now
  }
}

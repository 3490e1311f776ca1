import { Problem } from '../problems.ts'
import type { Key } from './key.ts'

/** A key that has sent nothing for this long may send the records of this many seconds at once. */
const BURST_SECONDS = 10

/** The rate limits of keys. They are in memory, so each instance counts by itself. */
export class RateLimits {
  readonly #default: number | undefined
  readonly #limits = new Map<string, RateLimit>()

  /** @param recordsPerSecond for keys without a rate of their own; undefined: no limit */
  constructor(recordsPerSecond: number | undefined) {
    this.#default = recordsPerSecond
  }

  /** undefined: the key has no limit. */
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
 * A token bucket that counts records. The number of records in a request is known only after its body was read, and then it is
 * too late to refuse it. So a request is accepted while anything is left, and the records over the limit become debt. The key
 * is refused until the debt is repaid. Over time this gives the configured rate, whatever the sizes of the batches.
 */
export class RateLimit {
  readonly recordsPerSecond: number
  readonly #capacity: number
  /** Records that may still be sent. Negative: debt. */
  #left: number
  #at = performance.now()

  constructor(recordsPerSecond: number) {
    this.recordsPerSecond = recordsPerSecond
    this.#capacity = recordsPerSecond * BURST_SECONDS
    this.#left = this.#capacity
  }

  /** Accepts a request and counts one record for it. @throws Problem rate_limited */
  admit(): void {
    if (this.waitMs > 0) {
      const seconds = Math.ceil(this.waitMs / 1000)
      const detail = `This key may send ${this.recordsPerSecond} records per second. Send the request again in ${seconds} s, as Retry-After says.`
      throw new Problem('rate_limited', detail, { headers: { 'retry-after': String(seconds), ...this.headers } })
    }
    this.charge(1)
  }

  charge(records: number): void {
    this.#refill()
    this.#left -= records
  }

  /** Time until the next record may be sent. */
  get waitMs(): number {
    this.#refill()
    return Math.max(0, (1 - this.#left) / this.recordsPerSecond) * 1000
  }

  /**
   * draft-ietf-httpapi-ratelimit-headers-11. The name of the policy says what is counted. `qu` cannot say it, because it allows
   * only registered units, and records are not one of them.
   */
  get headers(): Record<string, string> {
    this.#refill()
    const left = Math.max(0, Math.floor(this.#left))
    // If nothing is left: the time until the next record, as in Retry-After. Otherwise the time until the bucket is full.
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

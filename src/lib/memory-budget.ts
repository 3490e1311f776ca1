import { Problem } from '../problems.ts'

/**
 * A bound on the memory that clients can claim. A request that does not fit is refused at once. One budget is for the bodies
 * that are being read or wait for their commit, another one for the responses that readers have not taken yet.
 *
 * Each API key has a share: it may reserve at most as much as remains free for the others (the "dynamic threshold" of Choudhury
 * and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998). One key alone can take half, two keys a third each, and the rest
 * is free for other keys. A key without a reservation may reserve everything that is free, so that the largest body fits.
 * While nothing else is reserved, one request may even exceed the bound.
 */
export class MemoryBudget {
  readonly max: number
  readonly #refusal: string
  #used = 0
  /** Reserved bytes by owner. Contains only owners with a reservation. */
  readonly #held = new Map<string, number>()

  /** @param refusal detail of the problem for a request that does not fit */
  constructor(max: number, refusal: string) {
    this.max = max
    this.#refusal = refusal
  }

  get used(): number {
    return this.#used
  }

  /**
   * Reserves memory.
   * @param owner the id of the API key, or an empty string for a request without a key
   * @throws Problem overloaded
   */
  reserve(owner: string, bytes: number): void {
    this.#reserve(owner, bytes, 0)
  }

  /** @param own bytes that are already reserved for the same request; if the owner has no others, its share is not a limit */
  #reserve(owner: string, bytes: number, own: number): void {
    const held = this.#held.get(owner) ?? 0
    const free = this.max - this.#used - bytes
    if (free < 0 && this.#used > own) throw new Problem('overloaded', this.#refusal)
    if (held > own && held + bytes > free) {
      const who = owner === '' ? 'Requests without a key already use their' : `The API key ${owner} already uses its`
      throw new Problem('overloaded', `${who} share of the memory. ${this.#refusal}`)
    }
    this.#change(owner, held + bytes, bytes)
  }

  /** Releases memory. */
  release(owner: string, bytes: number): void {
    this.#change(owner, (this.#held.get(owner) ?? 0) - bytes, -bytes)
  }

  /**
   * Opens a reservation that can grow and shrink. Call the returned function with the new total in bytes. It throws like `reserve`,
   * and the reservation is then unchanged. If it is the only one of its owner, it may grow to everything that is free.
   */
  openReservation(owner: string): (bytes: number) => void {
    let held = 0
    return (bytes) => {
      if (bytes > held) this.#reserve(owner, bytes - held, held)
      else this.release(owner, held - bytes)
      held = bytes
    }
  }

  #change(owner: string, held: number, bytes: number): void {
    this.#used += bytes
    if (held > 0) this.#held.set(owner, held)
    else this.#held.delete(owner)
  }
}

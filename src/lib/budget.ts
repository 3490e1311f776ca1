import { Problem } from './problems.ts'

/**
 * A bound on the memory that clients can claim: what does not fit is refused at once. There is one for senders, of all
 * bodies that are being read or wait for their commit; and one for readers, of all answers that they have not taken yet.
 *
 * Each API key has a share: it may hold at most as much as is still free after that (the "dynamic threshold" of Choudhury
 * and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998). One key alone can take half, two a third each, and what
 * they leave is for a key that comes later. A key that holds nothing may take whatever is free, so that the largest body fits.
 */
export class Budget {
  readonly max: number
  readonly #refusal: string
  #used = 0
  /** Bytes by owner; those that hold nothing are not in it. */
  readonly #held = new Map<string, number>()

  /** @param refusal what to say to those it is too small for */
  constructor(max: number, refusal: string) {
    this.max = max
    this.#refusal = refusal
  }

  get used(): number {
    return this.#used
  }

  /**
   * @param owner the id of the API key that the memory is held for; empty: there is none
   * @throws Problem overloaded
   */
  take(owner: string, bytes: number): void {
    this.#take(owner, bytes, 0)
  }

  /** @param own what the owner holds already for the same request: no reason to refuse it more */
  #take(owner: string, bytes: number, own: number): void {
    const held = this.#held.get(owner) ?? 0
    const free = this.max - this.#used - bytes
    if (free < 0 && this.#used > own) throw new Problem('overloaded', this.#refusal)
    if (held > own && held + bytes > free) {
      const who = owner === '' ? 'Requests without a key hold their' : `The API key ${owner} holds its`
      throw new Problem('overloaded', `${who} share of the memory already. ${this.#refusal}`)
    }
    this.#change(owner, held + bytes, bytes)
  }

  give(owner: string, bytes: number): void {
    this.#change(owner, (this.#held.get(owner) ?? 0) - bytes, -bytes)
  }

  /**
   * A reservation whose size changes: call it with the bytes held now. It throws what `take` throws, and keeps what it had.
   * As the only one of its owner it may grow to all that is free, like one that is as large from the beginning.
   */
  openReservation(owner: string): (bytes: number) => void {
    let held = 0
    return (bytes) => {
      if (bytes > held) this.#take(owner, bytes - held, held)
      else this.give(owner, held - bytes)
      held = bytes
    }
  }

  #change(owner: string, held: number, bytes: number): void {
    this.#used += bytes
    if (held > 0) this.#held.set(owner, held)
    else this.#held.delete(owner)
  }
}

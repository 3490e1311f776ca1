import { Problem } from './problems.ts'

/**
 * A bound on the memory that clients can claim: what does not fit is refused at once. There is one for senders, of all
 * bodies that are being read or wait for their commit; and one for readers, of all answers that they have not taken yet.
 */
export class Budget {
  readonly max: number
  readonly #refusal: string
  #used = 0

  /** @param refusal what to say to those it is too small for */
  constructor(max: number, refusal: string) {
    this.max = max
    this.#refusal = refusal
  }

  get used(): number {
    return this.#used
  }

  /** @throws Problem overloaded */
  take(bytes: number): void {
    if (this.#used + bytes > this.max && this.#used > 0) {
      throw new Problem('overloaded', this.#refusal)
    }
    this.#used += bytes
  }

  give(bytes: number): void {
    this.#used -= bytes
  }

  /** A share whose size changes: tell it how many bytes are held now. It throws what `take` does, and keeps what it had. */
  openShare(): (bytes: number) => void {
    let held = 0
    return (bytes) => {
      if (bytes > held) this.take(bytes - held)
      else this.give(held - bytes)
      held = bytes
    }
  }
}

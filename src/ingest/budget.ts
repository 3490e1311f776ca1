import { Problem } from '../lib/problems.ts'

/**
 * The bytes of all bodies that are being read or wait for their commit. The one bound on the memory that senders can
 * claim: what does not fit is refused at once, before it is read.
 */
export class Budget {
  readonly max: number
  #used = 0

  constructor(max: number) {
    this.max = max
  }

  get used(): number {
    return this.#used
  }

  /** @throws Problem overloaded */
  take(bytes: number): void {
    if (this.#used + bytes > this.max && this.#used > 0) {
      throw new Problem(
        'overloaded',
        'Too many bytes wait to be written. Nothing of this request was; send it again later.',
      )
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

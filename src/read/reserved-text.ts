/** Builds a text as UTF-8. Reserves memory before it allocates it. */
export class ReservedText {
  readonly #reserve: (bytes: number) => void
  #bytes = Buffer.alloc(0)
  #size = 0

  /** @param reserve called with the bytes that the text takes from now on; throws if they are too many */
  constructor(reserve: (bytes: number) => void) {
    this.#reserve = reserve
  }

  /** Makes room for this many bytes in total. @throws what `reserve` throws */
  reserve(bytes: number): void {
    if (bytes <= this.#bytes.length) return
    // The old memory is in use until it is copied.
    this.#reserve(this.#bytes.length + bytes)
    const larger = Buffer.allocUnsafeSlow(bytes)
    this.#bytes.copy(larger, 0, 0, this.#size)
    this.#bytes = larger
    this.#reserve(bytes)
  }

  /** @throws what `reserve` throws */
  add(text: string): void {
    const end = this.#size + Buffer.byteLength(text)
    if (end > this.#bytes.length) this.reserve(Math.max(end, this.#bytes.length * 2))
    this.#size += this.#bytes.write(text, this.#size)
  }

  /** Returns the whole text. Nothing can be added after this. */
  finish(): Buffer {
    return this.#bytes.subarray(0, this.#size)
  }
}

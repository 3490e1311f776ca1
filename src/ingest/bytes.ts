const NOTHING = Buffer.alloc(0)
/** Room for the second chunk, where nothing says how much is to come. */
const LEAST_ROOM = 4096

/**
 * Gathers chunks into one buffer. A list of them would be no bound on memory: each is an object of 200 bytes, and a body
 * in the chunked transfer coding may consist of chunks of one byte.
 */
export class Bytes {
  readonly #expected: number
  #bytes: Buffer = NOTHING
  #length = 0

  /** @param expected how many bytes will come, if that is known; else 0 */
  constructor(expected = 0) {
    this.#expected = expected
  }

  get length(): number {
    return this.#length
  }

  add(chunk: Buffer): void {
    const length = this.#length + chunk.length
    // Most come as one chunk, which is kept as it is; but not a small part of a large one, which keeps all of that alive.
    if (this.#length === 0 && chunk.buffer.byteLength <= chunk.length * 2) this.#bytes = chunk
    else {
      if (length > this.#bytes.length) this.#grow(length)
      chunk.copy(this.#bytes, this.#length)
    }
    this.#length = length
  }

  /** What was gathered. From here on it is empty. */
  take(): Buffer {
    const bytes = this.#bytes.subarray(0, this.#length)
    this.clear()
    return bytes
  }

  clear(): void {
    this.#bytes = NOTHING
    this.#length = 0
  }

  #grow(length: number): void {
    const larger = Buffer.allocUnsafeSlow(Math.max(length, this.#expected, this.#bytes.length * 2, LEAST_ROOM))
    this.#bytes.copy(larger, 0, 0, this.#length)
    this.#bytes = larger
  }
}

const EMPTY = Buffer.alloc(0)
/** Minimum allocation, in bytes, if the total length is unknown. */
const MIN_ALLOCATION = 4096

/**
 * Gathers chunks into one buffer. A list of chunks would not bound memory: each chunk is an object of 200 bytes, and a body
 * with chunked transfer coding may consist of chunks of one byte.
 */
export class Bytes {
  readonly #expected: number
  #bytes: Buffer = EMPTY
  #length = 0

  /** @param expected total number of bytes, or 0 if it is unknown */
  constructor(expected = 0) {
    this.#expected = expected
  }

  get length(): number {
    return this.#length
  }

  add(chunk: Buffer): void {
    const length = this.#length + chunk.length
    // Most bodies are one chunk, which is kept without a copy. A small part of a large buffer is copied, because it would keep the
    // whole buffer alive.
    if (this.#length === 0 && chunk.buffer.byteLength <= chunk.length * 2) this.#bytes = chunk
    else {
      if (length > this.#bytes.length) this.#grow(length)
      chunk.copy(this.#bytes, this.#length)
    }
    this.#length = length
  }

  /** At most this many of the first bytes. Valid until more bytes are added. */
  start(length: number): Buffer {
    return this.#bytes.subarray(0, Math.min(length, this.#length))
  }

  /** Returns the gathered bytes and empties this object. */
  take(): Buffer {
    const bytes = this.#bytes.subarray(0, this.#length)
    this.clear()
    return bytes
  }

  clear(): void {
    this.#bytes = EMPTY
    this.#length = 0
  }

  #grow(length: number): void {
    const larger = Buffer.allocUnsafeSlow(Math.max(length, this.#expected, this.#bytes.length * 2, MIN_ALLOCATION))
    this.#bytes.copy(larger, 0, 0, this.#length)
    this.#bytes = larger
  }
}

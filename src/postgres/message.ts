const FIRST_BYTES = 16 * 1024
/** Larger messages are rare, so their memory is not kept. */
const MAX_KEPT_BYTES = 8 * 1024 * 1024

const messages = new WeakMap<object, Message>()

/** The message of this connection: all that the connection sends is written into it. */
export function messageOf(connection: object): Message {
  const message = messages.get(connection) ?? new Message()
  messages.set(connection, message)
  return message
}

/** A buffer for messages to PostgreSQL. The next message reuses its memory. */
export class Message {
  #bytes: Buffer = Buffer.allocUnsafeSlow(FIRST_BYTES)
  #at = 0

  /** Begins a new message, which overwrites the previous one. */
  restart(): void {
    this.#at = 0
    if (this.#bytes.length > MAX_KEPT_BYTES) this.#bytes = Buffer.allocUnsafeSlow(FIRST_BYTES)
  }

  /** In bytes. */
  get size(): number {
    return this.#at
  }

  /** The bytes that were written. Valid until `restart`. */
  written(): Buffer {
    return this.#bytes.subarray(0, this.#at)
  }

  /** The type, the size in bytes, which includes the size field itself, and what `write` writes. */
  frame(type: string, write: () => void): void {
    this.int8(type.charCodeAt(0))
    const sizeAt = this.#at
    this.int32(0)
    write()
    this.#bytes.writeInt32BE(this.#at - sizeAt, sizeAt)
  }

  int8(value: number): void {
    this.#reserve(1)
    this.#at = this.#bytes.writeInt8(value, this.#at)
  }

  int16(value: number): void {
    this.#reserve(2)
    this.#at = this.#bytes.writeInt16BE(value, this.#at)
  }

  int32(value: number): void {
    this.#reserve(4)
    this.#at = this.#bytes.writeInt32BE(value, this.#at)
  }

  int64(value: bigint): void {
    this.#reserve(8)
    this.#at = this.#bytes.writeBigInt64BE(value, this.#at)
  }

  /** The text, then a zero byte. */
  cstring(text: string): void {
    this.text(text)
    this.int8(0)
  }

  /** The size in bytes as an int32, then the text. */
  sizedText(text: string): void {
    const sizeAt = this.#at
    this.int32(0)
    this.text(text)
    this.#bytes.writeInt32BE(this.#at - sizeAt - 4, sizeAt)
  }

  /** The size in bytes, then what `write` writes. If `write` returns false, only the size -1, which means null. */
  sized(write: () => boolean): void {
    const sizeAt = this.#at
    this.int32(-1)
    if (write()) this.#bytes.writeInt32BE(this.#at - sizeAt - 4, sizeAt)
  }

  raw(bytes: Buffer): true {
    this.copy(bytes, 0, bytes.length)
    return true
  }

  copy(bytes: Buffer, from: number, to: number): void {
    this.#reserve(to - from)
    this.#at += bytes.copy(this.#bytes, this.#at, from, to)
  }

  /** The text alone, without a size or an end. */
  text(text: string): void {
    // A UTF-16 unit takes at most three bytes in UTF-8. Counting the bytes first would read the text twice.
    this.#reserve(text.length * 3)
    this.#at += this.#bytes.write(text, this.#at)
  }

  #reserve(size: number): void {
    if (this.#at + size <= this.#bytes.length) return
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#bytes.length * 2, this.#at + size))
    this.#bytes.copy(larger, 0, 0, this.#at)
    this.#bytes = larger
  }
}

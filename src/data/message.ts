const FIRST_BYTES = 16 * 1024
/** A message larger than this is rare: its memory is not kept. */
const MOST_KEPT_BYTES = 8 * 1024 * 1024

const messages = new WeakMap<object, Message>()

/** The one in which all that a connection sends is made. */
export function messageOf(connection: object): Message {
  const message = messages.get(connection) ?? new Message()
  messages.set(connection, message)
  return message
}

/** The bytes of a message in the making. Their memory is used again for the next one. */
export class Message {
  #bytes: Buffer = Buffer.allocUnsafeSlow(FIRST_BYTES)
  #at = 0

  /** From here on it is another message, over the bytes of the one before. */
  restart(): void {
    this.#at = 0
    if (this.#bytes.length > MOST_KEPT_BYTES) this.#bytes = Buffer.allocUnsafeSlow(FIRST_BYTES)
  }

  /** In bytes. */
  get size(): number {
    return this.#at
  }

  /** What was written: good until `restart`. */
  written(): Buffer {
    return this.#bytes.subarray(0, this.#at)
  }

  /** A type, and whatever `write` adds, after its size in bytes, which counts itself. */
  frame(type: string, write: () => void): void {
    this.int8(type.charCodeAt(0))
    const place = this.#at
    this.int32(0)
    write()
    this.#bytes.writeInt32BE(this.#at - place, place)
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

  /** Ended by a zero. */
  cstring(text: string): void {
    this.text(text)
    this.int8(0)
  }

  /** After its size in bytes, in four of them. */
  sizedText(text: string): void {
    const place = this.#at
    this.int32(0)
    this.text(text)
    this.#bytes.writeInt32BE(this.#at - place - 4, place)
  }

  /** Whatever `write` adds, after its size in bytes; or, when it says that there is nothing, the size -1. */
  sized(write: () => boolean): void {
    const place = this.#at
    this.int32(-1)
    if (write()) this.#bytes.writeInt32BE(this.#at - place - 4, place)
  }

  raw(bytes: Buffer): true {
    this.copy(bytes, 0, bytes.length)
    return true
  }

  copy(bytes: Buffer, from: number, to: number): void {
    this.#reserve(to - from)
    this.#at += bytes.copy(this.#bytes, this.#at, from, to)
  }

  /** As it is: whoever reads it knows where it ends. */
  text(text: string): void {
    // A UTF-16 unit takes three bytes at most. Counting them first would go over the text twice.
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

import { Message } from './message.ts'

/** OID of text, from pg_type: part of PostgreSQL's stable binary format of arrays. */
const TEXT_OID = 25

/**
 * A column of a flush as one binary text[] parameter: the layout of array_send in PostgreSQL's arrayfuncs.c. One
 * parameter a column instead of one a value, since a statement has at most 65,535; binary, since the text form would
 * be quoted here and unquoted there. Encoded when it is sent, straight into the message: see bind.ts.
 */
export class TextArray {
  readonly #values: readonly (string | null)[]

  constructor(values: readonly (string | null)[]) {
    this.#values = values
  }

  /** @returns false when every value is null, and nothing was written: unnest() fills a column of NULL for nothing */
  writeTo(message: Message): boolean {
    const values = this.#values
    const nulls = values.filter((value) => value === null).length
    if (nulls === values.length) return false
    message.int32(1) // dimensions
    message.int32(nulls > 0 ? 1 : 0)
    message.int32(TEXT_OID)
    message.int32(values.length)
    message.int32(1) // lower bound
    for (const value of values) {
      if (value === null) message.int32(-1)
      else message.sizedText(value)
    }
    return true
  }

  /** How node-postgres asks an object for its value, on connections that do not know of this class. */
  toPostgres(): Buffer | null {
    const message = new Message()
    return this.writeTo(message) ? message.written() : null
  }
}

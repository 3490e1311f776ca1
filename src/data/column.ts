import { Message } from './message.ts'
import type { PackedRows } from './packed-rows.ts'
import type { ValueName } from './tuple.ts'

/**
 * A column of a flush as one binary array parameter: one a column instead of one a value, since a statement has at most
 * 65,535; binary, since the text form would be quoted here and unquoted there. Written when it is sent, straight into the
 * message: see bind.ts.
 */
export class Column {
  readonly #rows: PackedRows
  readonly #name: ValueName
  readonly #oid: number

  constructor(rows: PackedRows, name: ValueName, type: keyof typeof OIDS) {
    this.#rows = rows
    this.#name = name
    this.#oid = OIDS[type]
  }

  /**
   * The layout of array_send in PostgreSQL's arrayfuncs.c.
   * @returns false when every value is null, and nothing was written: unnest() fills a column of NULL for nothing
   */
  writeTo(message: Message): boolean {
    const rows = this.#rows
    const nulls = rows.countNulls(this.#name)
    if (nulls === rows.length) return false
    message.int32(1) // dimensions
    message.int32(nulls > 0 ? 1 : 0)
    message.int32(this.#oid)
    message.int32(rows.length)
    message.int32(1) // lower bound
    // Values look the same in an array as in a tuple.
    rows.writeValues(message, this.#name)
    return true
  }

  /** How node-postgres asks an object for its value, on connections that do not know of this class. */
  toPostgres(): Buffer | null {
    const message = new Message()
    return this.writeTo(message) ? message.written() : null
  }
}

/** From pg_type: part of PostgreSQL's stable binary format of arrays. */
const OIDS = { bytea: 17, text: 25, timestamptz: 1184, jsonb: 3802 }

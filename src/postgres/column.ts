import { Message } from './message.ts'
import type { PackedRows } from './packed-rows.ts'
import type { ValueName } from './tuple.ts'

/**
 * A column of a flush as one binary array parameter. One parameter per column and not per value, because a statement can have
 * at most 65,535. Binary, because the text form would have to be quoted here and unquoted by PostgreSQL. The column is written
 * straight into the message when it is sent (bind.ts).
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
   * @returns false if every value is null. Then nothing is written, and the parameter is NULL: unnest() fills the column with
   *   nulls
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
    // Values have the same form in an array as in a tuple.
    rows.writeValues(message, this.#name)
    return true
  }

  /** node-postgres calls this on connections that `bindInPlace` has not changed. */
  toPostgres(): Buffer | null {
    const message = new Message()
    return this.writeTo(message) ? message.written() : null
  }
}

/** From pg_type. These numbers are part of PostgreSQL's stable binary format for arrays. */
const OIDS = { bytea: 17, text: 25, timestamptz: 1184, jsonb: 3802 }

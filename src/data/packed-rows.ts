import { Message } from './message.ts'
import type { Row, Rows } from './row.ts'
import { findValues, indexOf, placeTuple, readTuple, VALUES_PER_TUPLE, type ValueName, writeTuple } from './tuple.ts'

/** Tuples one after the other. */
interface Tuples {
  bytes: Buffer
  /** Where each begins, and where the last ends. */
  bounds: readonly number[]
}

/** Memory that was given back, for the next packers: of the whole process, since of streams there may be many. */
const spare: Message[] = []
/** As many as a stream has under way. */
const MOST_SPARE = 4

/** Packs rows as they come. Takes no memory before the first one. */
export class RowPacker {
  #message: Message | undefined
  #bounds = [0]

  /** @param message what it packs into first; else spare memory */
  constructor(message?: Message) {
    this.#message = message
  }

  get length(): number {
    return this.#bounds.length - 1
  }

  /** In bytes. */
  get size(): number {
    return this.#bounds.at(-1) as number
  }

  add(row: Row): void {
    this.#message ??= spare.pop() ?? new Message()
    writeTuple(this.#message, row, 0, 0)
    this.#bounds.push(this.#message.size)
  }

  /** What was added: good until `release`. */
  rows(): PackedRows {
    return new PackedRows([{ bytes: this.#message?.written() ?? NOTHING, bounds: this.#bounds }])
  }

  /** From here on it is empty. Others use its memory. */
  release(): void {
    if (this.#message !== undefined && spare.length < MOST_SPARE) {
      this.#message.restart()
      spare.push(this.#message)
    }
    this.#message = undefined
    this.#bounds = [0]
  }
}

const NOTHING = Buffer.alloc(0)

/**
 * Rows as the bytes that PostgreSQL gets, outside of the heap. As objects, the thousands of a stream that wait at a time
 * would be most of what the garbage collector has to do: it finds them alive, and moves them.
 */
export class PackedRows implements Rows {
  readonly length: number
  readonly #parts: readonly Tuples[]
  /** Of the values of each part; found when they are first asked for. */
  #places: Int32Array[] | undefined

  constructor(parts: readonly Tuples[]) {
    this.#parts = parts
    this.length = parts.reduce((sum, { bounds }) => sum + bounds.length - 1, 0)
  }

  static join(all: readonly PackedRows[]): PackedRows {
    return new PackedRows(all.flatMap((rows) => rows.#parts))
  }

  slice(from: number, to: number): PackedRows {
    const parts: Tuples[] = []
    let before = 0
    for (const { bytes, bounds } of this.#parts) {
      const [first, end] = [Math.max(0, from - before), Math.min(bounds.length - 1, to - before)]
      if (first < end) parts.push({ bytes, bounds: bounds.slice(first, end + 1) })
      before += bounds.length - 1
    }
    return new PackedRows(parts)
  }

  *[Symbol.iterator](): Generator<Row> {
    for (const { bytes, bounds } of this.#parts) {
      for (const at of bounds.slice(0, -1)) yield readTuple(bytes, at)
    }
  }

  /** Adds the tuples to a COPY, at the places from `n` on. */
  writeTo(message: Message, epoch: number, n: number): void {
    let place = n
    for (const { bytes, bounds } of this.#parts) {
      for (const at of bounds.slice(0, -1)) placeTuple(bytes, at, epoch, place++)
      message.copy(bytes, bounds[0] as number, bounds.at(-1) as number)
    }
  }

  countNulls(name: ValueName): number {
    let nulls = 0
    this.#eachValue(name, (bytes, at) => {
      if (bytes.readInt32BE(at) === -1) nulls++
    })
    return nulls
  }

  /** Adds the values of a column, each after its size. */
  writeValues(message: Message, name: ValueName): void {
    this.#eachValue(name, (bytes, at) => message.copy(bytes, at, at + 4 + Math.max(0, bytes.readInt32BE(at))))
  }

  #eachValue(name: ValueName, visit: (bytes: Buffer, at: number) => void): void {
    this.#places ??= this.#parts.map(findPlaces)
    for (const [part, { bytes }] of this.#parts.entries()) {
      const places = this.#places[part] as Int32Array
      for (let index = indexOf(name); index < places.length; index += VALUES_PER_TUPLE)
        visit(bytes, places[index] as number)
    }
  }
}

function findPlaces({ bytes, bounds }: Tuples): Int32Array {
  const places = new Int32Array((bounds.length - 1) * VALUES_PER_TUPLE)
  for (const [index, at] of bounds.slice(0, -1).entries()) findValues(bytes, at, places, index * VALUES_PER_TUPLE)
  return places
}

/** All of them, in their order. */
export function joinRows(all: readonly Rows[]): Rows {
  if (all.length === 1) return all[0] as Rows
  return all.some((rows) => rows instanceof PackedRows)
    ? PackedRows.join(all.map(pack))
    : all.flatMap((rows) => [...rows])
}

/** In memory of their own: those of one flush, which nobody gives back. */
export function pack(rows: Rows): PackedRows {
  if (rows instanceof PackedRows) return rows
  const packer = new RowPacker(new Message())
  for (const row of rows) packer.add(row)
  return packer.rows()
}

import { Message } from './message.ts'
import type { Row, Rows } from './row.ts'
import {
  findValues,
  indexOf,
  readNames,
  readTuple,
  setTuplePosition,
  VALUES_PER_TUPLE,
  type ValueName,
  writeTuple,
} from './tuple.ts'

/** Tuples one after the other. */
interface Tuples {
  bytes: Buffer
  /** The byte offset where each tuple begins, then the one where the last tuple ends. */
  bounds: readonly number[]
}

/** Memory that packers have released, for the next ones. Shared by the whole process, because there may be many streams. */
const spare: Message[] = []
/** As many as one stream uses at a time. */
const MAX_SPARE = 4

/** Packs rows one by one. Takes memory only when the first row is added. */
export class RowPacker {
  #message: Message | undefined
  #bounds = [0]

  /** @param message the memory to pack into until `release`; absent: spare memory */
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

  /** The rows that were added. Valid until `release`. */
  rows(): PackedRows {
    return new PackedRows([{ bytes: this.#message?.written() ?? NOTHING, bounds: this.#bounds }])
  }

  /** Empties the packer. Other packers reuse its memory. */
  release(): void {
    if (this.#message !== undefined && spare.length < MAX_SPARE) {
      this.#message.restart()
      spare.push(this.#message)
    }
    this.#message = undefined
    this.#bounds = [0]
  }
}

const NOTHING = Buffer.alloc(0)

/**
 * Rows in the binary form of COPY, outside of the JavaScript heap. A stream has thousands of rows waiting at a time. As objects,
 * they would cause most of the garbage collector's work, because they live long enough to be moved.
 */
export class PackedRows implements Rows {
  readonly length: number
  readonly #parts: readonly Tuples[]
  /** The byte offsets of the values of each part. Computed on first use. */
  #offsets: Int32Array[] | undefined

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

  /** Without reading the rest of the row. */
  namesAt(index: number): Pick<Row, 'source' | 'type'> {
    let first = 0
    for (const { bytes, bounds } of this.#parts) {
      const at = bounds[index - first]
      first += bounds.length - 1
      if (index < first) return readNames(bytes, at as number)
    }
    throw new RangeError(`there is no row ${index}`)
  }

  *[Symbol.iterator](): Generator<Row> {
    for (const { bytes, bounds } of this.#parts) {
      for (const at of bounds.slice(0, -1)) yield readTuple(bytes, at)
    }
  }

  /** Adds the tuples to a COPY. The first one gets position `n`, the others the numbers after it. */
  writeTo(message: Message, epoch: number, n: number): void {
    let next = n
    for (const { bytes, bounds } of this.#parts) {
      for (const at of bounds.slice(0, -1)) setTuplePosition(bytes, at, epoch, next++)
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

  /** Adds the values of a column, each with its size in front. */
  writeValues(message: Message, name: ValueName): void {
    this.#eachValue(name, (bytes, at) => message.copy(bytes, at, at + 4 + Math.max(0, bytes.readInt32BE(at))))
  }

  #eachValue(name: ValueName, visit: (bytes: Buffer, at: number) => void): void {
    this.#offsets ??= this.#parts.map(findOffsets)
    for (const [part, { bytes }] of this.#parts.entries()) {
      const offsets = this.#offsets[part] as Int32Array
      for (let index = indexOf(name); index < offsets.length; index += VALUES_PER_TUPLE)
        visit(bytes, offsets[index] as number)
    }
  }
}

function findOffsets({ bytes, bounds }: Tuples): Int32Array {
  const offsets = new Int32Array((bounds.length - 1) * VALUES_PER_TUPLE)
  for (const [index, at] of bounds.slice(0, -1).entries()) findValues(bytes, at, offsets, index * VALUES_PER_TUPLE)
  return offsets
}

/** All rows, in order. */
export function joinRows(all: readonly Rows[]): Rows {
  if (all.length === 1) return all[0] as Rows
  return all.some((rows) => rows instanceof PackedRows)
    ? PackedRows.join(all.map(pack))
    : all.flatMap((rows) => [...rows])
}

/** Packs the rows of a flush into their own memory, which is left to the garbage collector. */
export function pack(rows: Rows): PackedRows {
  if (rows instanceof PackedRows) return rows
  const packer = new RowPacker(new Message())
  for (const row of rows) packer.add(row)
  return packer.rows()
}

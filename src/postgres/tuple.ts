import { fromMicroseconds, toMicroseconds } from '../lib/pg-time.ts'
import type { Message } from './message.ts'
import type { Row } from './row.ts'

/** The columns of a tuple, in order. */
export const TUPLE_COLUMNS =
  'epoch, n, source, id, type, subject, "time", dataschema, datacontenttype, extensions, data, data_bytes'
const COLUMNS = TUPLE_COLUMNS.split(',').length

/** Byte offsets in a tuple: the number of columns, then each value after its size. */
const EPOCH_AT = 2 + 4
const N_AT = EPOCH_AT + 4 + 4
const VALUES_AT = N_AT + 8

/**
 * Writes a row in the binary format of COPY: https://www.postgresql.org/docs/18/sql-copy.html, "Tuples". The values have the form
 * that the receive functions of their types expect (timestamptz_recv, jsonb_recv, … in PostgreSQL's sources).
 */
export function writeTuple(message: Message, row: Row, epoch: number, n: number): void {
  message.int16(COLUMNS)
  message.int32(4)
  message.int32(epoch)
  message.int32(8)
  message.int64(BigInt(n))
  writeText(message, row.source)
  writeText(message, row.id)
  writeText(message, row.type)
  writeText(message, row.subject)
  if (row.time === null) writeText(message, null)
  else {
    message.int32(8)
    message.int64(toMicroseconds(row.time))
  }
  writeText(message, row.dataschema)
  writeText(message, row.datacontenttype)
  writeJsonb(message, row.extensions)
  writeText(message, row.data)
  message.sized(() => row.dataBase64 !== null && message.raw(Buffer.from(row.dataBase64, 'base64')))
}

/** Sets the position of the tuple that begins at byte offset `at`. */
export function setTuplePosition(bytes: Buffer, at: number, epoch: number, n: number): void {
  bytes.writeInt32BE(epoch, at + EPOCH_AT)
  bytes.writeBigInt64BE(BigInt(n), at + N_AT)
}

/** The values of a row, in the order of the columns. */
const VALUES = [
  'source',
  'id',
  'type',
  'subject',
  'time',
  'dataschema',
  'datacontenttype',
  'extensions',
  'data',
  'dataBase64',
] as const satisfies (keyof Row)[]

export type ValueName = (typeof VALUES)[number]

/** The number of values, and the index of a value by name. */
export const VALUES_PER_TUPLE = VALUES.length
export const indexOf = (name: ValueName): number => VALUES.indexOf(name)

/**
 * Finds the values of the tuple at byte offset `at`. Writes their byte offsets into `offsets`, from index `first` on. Each one
 * points to the size of the value, which is -1 for null.
 */
export function findValues(bytes: Buffer, at: number, offsets: Int32Array, first: number): void {
  let next = at + VALUES_AT
  for (let value = first; value < first + VALUES.length; value++) {
    offsets[value] = next
    next += 4 + Math.max(0, bytes.readInt32BE(next))
  }
}

/** The source and the type of the row that `writeTuple` wrote. */
export function readNames(bytes: Buffer, at: number): Pick<Row, 'source' | 'type'> {
  // source, id and type are the first values, and are never null.
  const endOf = (from: number) => from + 4 + bytes.readInt32BE(from)
  const source = at + VALUES_AT
  const id = endOf(source)
  const type = endOf(id)
  return { source: bytes.toString('utf8', source + 4, id), type: bytes.toString('utf8', type + 4, endOf(type)) }
}

/** The row that `writeTuple` wrote. */
export function readTuple(bytes: Buffer, at: number): Row {
  let next = at + VALUES_AT
  const value = (): Buffer | null => {
    const size = bytes.readInt32BE(next)
    const from = next + 4
    next = from + Math.max(0, size)
    return size === -1 ? null : bytes.subarray(from, next)
  }
  const text = () => value()?.toString() ?? null
  // These columns are NOT NULL.
  const required = () => text() ?? ''
  const time = (micros = value()) => (micros === null ? null : fromMicroseconds(micros.readBigInt64BE()))
  return {
    source: required(),
    id: required(),
    type: required(),
    subject: text(),
    time: time(),
    dataschema: text(),
    datacontenttype: text(),
    extensions: value()?.toString('utf8', 1) ?? null,
    data: text(),
    dataBase64: value()?.toString('base64') ?? null,
  }
}

function writeText(message: Message, text: string | null): void {
  if (text === null) message.int32(-1)
  else message.sizedText(text)
}

/** The version of the format, which is always 1, then the text. */
function writeJsonb(message: Message, json: string | null): void {
  message.sized(() => {
    if (json === null) return false
    message.int8(1)
    message.text(json)
    return true
  })
}

import { crc32 } from 'node:zlib'

/** Where a record stands in the feed. `xid` is a transaction id of 64 bits, as a decimal. */
export interface Position {
  epoch: number
  xid: string
  n: number
}

const SIZE = 24

/** Where the last cursor was made, and the next one will be. */
const made = Buffer.alloc(SIZE)
const covered = made.subarray(0, 20)
let xidMade = '0'

/** An opaque cursor for a position: 32 characters of base64url, closed by a checksum. */
export function encodeCursor({ epoch, xid, n }: Position): string {
  made.writeUInt32BE(epoch, 0)
  // The records of a flush have the same.
  if (xid !== xidMade) made.writeBigUInt64BE(BigInt(xid), 4)
  xidMade = xid
  made.writeUInt32BE(Math.floor(n / 2 ** 32), 12)
  made.writeUInt32BE(n % 2 ** 32, 16)
  made.writeUInt32BE(crc32(covered), 20)
  return made.toString('base64url')
}

/** The position a cursor stands for; undefined when it was not made here or was damaged on the way. */
export function decodeCursor(cursor: string): Position | undefined {
  const bytes = Buffer.from(cursor, 'base64url')
  // Buffer.from passes over characters it does not know: only the same text back proves that it knew them all.
  if (bytes.length !== SIZE || bytes.toString('base64url') !== cursor) return undefined
  if (bytes.readUInt32BE(20) !== crc32(bytes.subarray(0, 20))) return undefined
  const [epoch, xid, n] = [bytes.readUInt32BE(0), bytes.readBigUInt64BE(4), bytes.readBigUInt64BE(12)]
  if (epoch > 0x7fffffff || n > BigInt(Number.MAX_SAFE_INTEGER)) return undefined
  return { epoch, xid: String(xid), n: Number(n) }
}

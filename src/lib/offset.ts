import { crc32 } from 'node:zlib'

/** Where a record is in the feed. */
export interface Position {
  epoch: number
  /** A transaction id of 64 bits, in decimal. */
  xid: string
  n: number
}

/** The form of an offset. Another form gets another number, and sorts after this one if it is higher. */
const VERSION = '1'
const SIZE = 24

/** Reused for every offset. */
const buffer = Buffer.alloc(SIZE)
const checksummed = buffer.subarray(0, 20)
let lastXid = '0'

/**
 * Encodes a position as an opaque offset: a version, and 48 hexadecimal digits, of which the last 8 are a checksum. As texts, offsets
 * sort in feed order (Durable Streams 1.0, section 6), in every collation.
 */
export function encodeOffset({ epoch, xid, n }: Position): string {
  buffer.writeUInt32BE(epoch, 0)
  // The records of a flush have the same xid, so it is often in the buffer already.
  if (xid !== lastXid) buffer.writeBigUInt64BE(BigInt(xid), 4)
  lastXid = xid
  buffer.writeUInt32BE(Math.floor(n / 2 ** 32), 12)
  buffer.writeUInt32BE(n % 2 ** 32, 16)
  buffer.writeUInt32BE(crc32(checksummed), 20)
  return VERSION + buffer.toString('hex')
}

/** Decodes an offset. Returns undefined if it was not made by `encodeOffset` or is damaged. */
export function decodeOffset(offset: string): Position | undefined {
  const bytes = Buffer.from(offset.slice(1), 'hex')
  // Buffer.from stops at an invalid character and accepts upper case. If encoding gives the same text again, nothing was wrong.
  if (bytes.length !== SIZE || VERSION + bytes.toString('hex') !== offset) return undefined
  if (bytes.readUInt32BE(20) !== crc32(bytes.subarray(0, 20))) return undefined
  const [epoch, xid, n] = [bytes.readUInt32BE(0), bytes.readBigUInt64BE(4), bytes.readBigUInt64BE(12)]
  if (epoch > 0x7fffffff || n > BigInt(Number.MAX_SAFE_INTEGER)) return undefined
  return { epoch, xid: String(xid), n: Number(n) }
}

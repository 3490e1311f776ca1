import { crc32 } from 'node:zlib'

/** Where a record is in the feed. */
export interface Position {
  epoch: number
  /** A transaction id of 64 bits, in decimal. */
  xid: string
  n: number
}

const SIZE = 24

/** Reused for every cursor. */
const buffer = Buffer.alloc(SIZE)
const checksummed = buffer.subarray(0, 20)
let lastXid = '0'

/** Encodes a position as an opaque cursor: 32 characters of base64url, with a checksum at the end. */
export function encodeCursor({ epoch, xid, n }: Position): string {
  buffer.writeUInt32BE(epoch, 0)
  // The records of a flush have the same xid, so it is often in the buffer already.
  if (xid !== lastXid) buffer.writeBigUInt64BE(BigInt(xid), 4)
  lastXid = xid
  buffer.writeUInt32BE(Math.floor(n / 2 ** 32), 12)
  buffer.writeUInt32BE(n % 2 ** 32, 16)
  buffer.writeUInt32BE(crc32(checksummed), 20)
  return buffer.toString('base64url')
}

/** Decodes a cursor. Returns undefined if it was not made by `encodeCursor` or is damaged. */
export function decodeCursor(cursor: string): Position | undefined {
  const bytes = Buffer.from(cursor, 'base64url')
  // Buffer.from ignores invalid characters. If encoding gives the same text again, there were none.
  if (bytes.length !== SIZE || bytes.toString('base64url') !== cursor) return undefined
  if (bytes.readUInt32BE(20) !== crc32(bytes.subarray(0, 20))) return undefined
  const [epoch, xid, n] = [bytes.readUInt32BE(0), bytes.readBigUInt64BE(4), bytes.readBigUInt64BE(12)]
  if (epoch > 0x7fffffff || n > BigInt(Number.MAX_SAFE_INTEGER)) return undefined
  return { epoch, xid: String(xid), n: Number(n) }
}

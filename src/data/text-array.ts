/** OID of text, from pg_type: part of PostgreSQL's stable binary format of arrays. */
const TEXT_OID = 25
const HEADER = 20

/**
 * A column of a flush as one binary text[] parameter: the layout of array_send in PostgreSQL's arrayfuncs.c. One
 * parameter a column instead of one a value, since a statement has at most 65,535; binary, since the text form would
 * be quoted here and unquoted there.
 * @returns null when every value is: unnest() then fills the column with NULL for nothing
 */
export function encodeTextArray(values: readonly (string | null)[]): Buffer | null {
  let size = HEADER
  let nulls = 0
  for (const value of values) {
    size += 4
    if (value === null) nulls++
    else size += Buffer.byteLength(value)
  }
  if (nulls === values.length) return null

  const bytes = Buffer.allocUnsafe(size)
  bytes.writeInt32BE(1, 0) // dimensions
  bytes.writeInt32BE(nulls > 0 ? 1 : 0, 4)
  bytes.writeInt32BE(TEXT_OID, 8)
  bytes.writeInt32BE(values.length, 12)
  bytes.writeInt32BE(1, 16) // lower bound
  let at = HEADER
  for (const value of values) {
    if (value === null) {
      at = bytes.writeInt32BE(-1, at)
    } else {
      const length = bytes.write(value, at + 4)
      bytes.writeInt32BE(length, at)
      at += 4 + length
    }
  }
  return bytes
}

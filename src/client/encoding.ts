/** The first bytes of files that are not UTF-8, and what they are. A byte order mark is at the start of UTF-16 and UTF-32. */
const SIGNATURES: readonly (readonly [bytes: string, is: string])[] = [
  ['\xff\xfe', 'it is UTF-16, not UTF-8. Save it as UTF-8'],
  ['\xfe\xff', 'it is UTF-16, not UTF-8. Save it as UTF-8'],
  ['\x00\x00\xfe\xff', 'it is UTF-32, not UTF-8. Save it as UTF-8'],
  ['\x1f\x8b', 'it is compressed with gzip, but its name does not end with .gz. Rename it, or decompress it'],
  ['\x28\xb5\x2f\xfd', 'it is compressed with zstd, but its name does not end with .zst. Rename it, or decompress it'],
  ['PK\x03\x04', 'it is a ZIP archive, such as a spreadsheet. Save it as CSV, or unpack it'],
]
const LONGEST = 4

/** Passes a text on. @throws Error with a sentence if its first bytes show that it is something else */
export async function* checkEncoding(bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let start = ''
  for await (const chunk of bytes) {
    if (start.length < LONGEST) {
      start += chunk.toString('latin1', 0, LONGEST)
      const found = SIGNATURES.find(([signature]) => start.startsWith(signature))
      if (found !== undefined) throw new Error(found[1])
    }
    yield chunk
  }
}

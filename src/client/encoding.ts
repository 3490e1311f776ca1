import { lookOfFile, MAGIC_BYTES } from '../lib/looks-like.ts'

/** Passes a text on. @throws Error with a sentence if its first bytes show that it is something else */
export async function* checkEncoding(bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let start = Buffer.alloc(0)
  for await (const chunk of bytes) {
    if (start.length < MAGIC_BYTES) {
      start = Buffer.concat([start, chunk.subarray(0, MAGIC_BYTES)])
      const found = lookOfFile(start)
      if (found !== undefined) throw new Error(`it is ${found.name}. ${found.advice}`)
    }
    yield chunk
  }
}

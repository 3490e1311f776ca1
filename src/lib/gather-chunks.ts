import type { Readable } from 'node:stream'
import { Bytes } from './gathered-bytes.ts'

/** Size of a gathered chunk, in bytes. At this size, the overhead of the Buffer object is small. */
const PIECE = 16 * 1024

const gathering = new WeakSet<Readable>()

/**
 * Makes a stream buffer unread bytes as a few large chunks. A stream counts bytes, but each chunk in its buffer is an
 * object: 64 KiB in chunks of one byte take 11 MiB of heap, while only 64 KiB are reserved for them.
 *
 * Bytes are gathered only while earlier bytes wait to be read, and `read` hands over all of them, so nothing is delayed.
 * A second call for the same stream does nothing.
 */
export function gatherChunks(stream: Readable): void {
  if (gathering.has(stream)) return
  gathering.add(stream)
  const { push, read } = stream
  const gathered = new Bytes()
  const handOver = () => push.call(stream, gathered.take())

  stream.push = (chunk: Buffer | null) => {
    if (chunk === null) {
      if (gathered.length > 0) handOver()
      return push.call(stream, null)
    }
    if (stream.readableLength === 0 || chunk.length >= PIECE) {
      if (gathered.length > 0) handOver()
      return push.call(stream, chunk)
    }
    gathered.add(chunk)
    if (gathered.length >= PIECE) return handOver()
    return stream.readableLength + gathered.length < stream.readableHighWaterMark
  }
  stream.read = (size?: number) => {
    // Node.js calls read(0) repeatedly to ask the source for more bytes.
    if (size !== 0 && gathered.length > 0) handOver()
    return read.call(stream, size)
  }
}

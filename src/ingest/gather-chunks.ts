import type { Readable } from 'node:stream'
import { Bytes } from './bytes.ts'

/** In bytes: what is gathered before it is handed over. A Buffer of this size costs little beside its bytes. */
const PIECE = 16 * 1024

const gathering = new WeakSet<Readable>()

/**
 * Lets a stream keep what nobody has read yet in a few large pieces. A stream counts bytes, but each chunk in it is an
 * object: 64 KiB of a body in chunks of one byte take 11 MiB of the heap, while 64 KiB are reserved for them.
 *
 * Bytes are gathered only behind others that wait to be read, and `read` hands over all of them: nothing is held back. To call it again changes nothing.
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
    // Node.js itself reads nothing, again and again, to ask for more.
    if (size !== 0 && gathered.length > 0) handOver()
    return read.call(stream, size)
  }
}

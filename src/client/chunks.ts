import { createHash } from 'node:crypto'
import { type Input, readInput } from './input.ts'
import type { SendableLine, UnsendableLine } from './lines.ts'

/** A response lists at most this many rejected lines, so all rejected lines of a chunk are listed. */
const CHUNK_LINES = 1000
/** A connection holds a chunk in memory: at most this many bytes, and one line more. */
const CHUNK_BYTES = 1024 * 1024

/** The lines of one request. */
export interface RequestChunk {
  input: Input
  /** Number of the chunk, from 0, over all inputs. */
  ordinal: number
  /** The lines that can be sent, and those that cannot. */
  lines: SendableLine[]
  unsendable: UnsendableLine[]
  /** Number of the last line before the chunk. */
  after: number
  /** Number of its last line, blank lines included. */
  reached: number
  /** How many bytes of all inputs had been read when the chunk was complete. */
  byteOffset: number
}

/**
 * Cuts inputs, one after the other, into chunks. The cuts depend only on the content, so loading an input again sends the same
 * requests. After `stop`, an incomplete chunk is left out.
 */
export async function* cutChunks(inputs: readonly Input[], stop: AbortSignal): AsyncGenerator<RequestChunk> {
  let ordinal = 0
  let byteOffset = 0
  for (const input of inputs) {
    let chunk = newChunk(input, 0)
    let bytes = 0
    for await (const { lines, reached } of readInput(input, stop)) {
      for (const line of lines) {
        if (line.record === undefined) chunk.unsendable.push(line)
        else chunk.lines.push(line)
        bytes += (line.record ?? line.original).length
        if (chunk.lines.length + chunk.unsendable.length < CHUNK_LINES && bytes < CHUNK_BYTES) continue
        yield complete(chunk, line.number)
        chunk = newChunk(input, line.number)
        bytes = 0
      }
      chunk.reached = reached
    }
    if (stop.aborted) return
    yield complete(chunk, chunk.reached)
    byteOffset += input.byteOffset
  }

  function complete(chunk: RequestChunk, reached: number): RequestChunk {
    chunk.ordinal = ordinal++
    chunk.reached = reached
    chunk.byteOffset = byteOffset + chunk.input.byteOffset
    return chunk
  }
}

function newChunk(input: Input, after: number): RequestChunk {
  return { input, ordinal: 0, lines: [], unsendable: [], after, reached: after, byteOffset: 0 }
}

const NEWLINE = Buffer.from('\n')

/** The body of the request. */
export function bodyOf({ lines }: RequestChunk): Buffer<ArrayBuffer> {
  return Buffer.concat(lines.flatMap(({ record }) => [record, NEWLINE]))
}

/**
 * The Idempotency-Key of a chunk, from which the server derives the ids of records without an id. It is the same each time that
 * the same input is loaded. It includes the line number, because two chunks of an input may be equal and still be different
 * records.
 */
export function idempotencyKey({ lines }: RequestChunk, body: Buffer): string {
  return createHash('sha256').update(`${lines[0]?.number}\n`).update(body).digest('hex')
}

import { createHash } from 'node:crypto'
import { type Input, readInput } from './input.ts'
import type { InputLine } from './lines.ts'
import { readObject } from './objects/json-object.ts'

/** A response lists at most this many rejected lines, so all rejected lines of a chunk are listed. */
const CHUNK_LINES = 1000
/** A connection holds a chunk in memory: at most this many bytes, and one line more. */
const CHUNK_BYTES = 1024 * 1024

/** The lines of one request. */
export interface RequestChunk {
  input: Input
  /** Number of the chunk, from 0, over all inputs. */
  ordinal: number
  /** The lines in the order of the input, also those that cannot be sent. */
  lines: InputLine[]
  /** Number of the last line before the chunk. */
  after: number
  /** Number of its last line, blank lines included. */
  reached: number
  /** How many bytes of all inputs had been read when the chunk was complete. */
  byteOffset: number
}

/**
 * Cuts inputs, one after the other, into chunks. The cuts depend only on the content, not on the options, so that a line is in the
 * same chunk whenever an input is loaded. After `stop`, an incomplete chunk is left out.
 * @throws like `readInput`, after the chunk of the lines that were read before the fault
 */
export async function* cutChunks(inputs: readonly Input[], stop: AbortSignal): AsyncGenerator<RequestChunk> {
  let ordinal = 0
  let byteOffset = 0
  for (const input of inputs) {
    let chunk = newChunk(input, 0)
    let bytes = 0
    try {
      for await (const { lines, reached } of readInput(input, stop)) {
        for (const line of lines) {
          chunk.lines.push(line)
          // The names of a header are repeated in each record.
          bytes += line.original.length + (input.format.header?.length ?? 0)
          if (chunk.lines.length < CHUNK_LINES && bytes < CHUNK_BYTES) continue
          yield complete(chunk, line.number)
          chunk = newChunk(input, line.number)
          bytes = 0
        }
        chunk.reached = reached
      }
    } catch (error) {
      // Other ids would change when the input is corrected, because they depend on all lines of a chunk.
      if (chunk.lines.length > 0 && chunk.lines.every(hasId)) yield complete(chunk, chunk.reached)
      throw error
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
  return { input, ordinal: 0, lines: [], after, reached: after, byteOffset: 0 }
}

/** Whether a record has an id of its own. What is rejected needs none. */
function hasId({ record }: InputLine): boolean {
  if (record === undefined) return true
  const read = readObject(record.toString())
  return 'reason' in read || read.members.some(({ name }) => name === 'id')
}

const NEWLINE = Buffer.from('\n')
const EMPTY = Buffer.alloc(0)

/** The body of the request. A line that cannot be sent is a blank line, so that each line has the same number as in the chunk. */
export function bodyOf({ lines }: RequestChunk): Buffer<ArrayBuffer> {
  return Buffer.concat(lines.flatMap(({ record }) => [record ?? EMPTY, NEWLINE]))
}

/**
 * The Idempotency-Key of a chunk. From it and the number of a line in the request, the server derives the ids of records without an
 * id. It depends on the lines of the input, and not on what the options make of them: with other options, a record has the same id.
 * It includes the line number, because two chunks of an input may be equal and still be different records.
 */
export function idempotencyKey({ lines }: RequestChunk): string {
  const hash = createHash('sha256').update(`${lines[0]?.number}\n`)
  for (const { original } of lines) hash.update(original).update(NEWLINE)
  return hash.digest('hex')
}

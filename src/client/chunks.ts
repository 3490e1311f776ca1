import { createHash } from 'node:crypto'
import { type Input, readInput } from './input.ts'
import type { InputLine } from './lines.ts'

/** One request tells at most this many refused lines one by one: so every one of them is told. */
const CHUNK_LINES = 1000
/** … of 250 bytes, which is less. What a connection holds in memory, and one line more. */
const CHUNK_BYTES = 1024 * 1024

/** What one request sends. */
export interface Chunk {
  input: Input
  /** From 0, over all inputs. */
  ordinal: number
  /** Those that can be sent, and those that cannot. */
  lines: InputLine[]
  unsendable: InputLine[]
  /** All lines of the input after this one, */
  after: number
  /** … and up to this one are in here; blank ones too. */
  reached: number
  /** Bytes of all inputs that were read until it was complete. */
  position: number
}

/**
 * Cuts inputs, one after the other, into chunks. Where they are cut depends on what is in the input and on nothing else,
 * so that loading it again sends the same requests. When it is stopped, what is not a whole chunk is left out.
 */
export async function* cutChunks(inputs: readonly Input[], stop: AbortSignal): AsyncGenerator<Chunk> {
  let ordinal = 0
  let position = 0
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
    position += input.position
  }

  function complete(chunk: Chunk, reached: number): Chunk {
    chunk.ordinal = ordinal++
    chunk.reached = reached
    chunk.position = position + chunk.input.position
    return chunk
  }
}

function newChunk(input: Input, after: number): Chunk {
  return { input, ordinal: 0, lines: [], unsendable: [], after, reached: after, position: 0 }
}

const NEWLINE = Buffer.from('\n')

/** The body of its request. */
export function bodyOf({ lines }: Chunk): Buffer<ArrayBuffer> {
  return Buffer.concat(lines.flatMap(({ record }) => [record as Buffer, NEWLINE]))
}

/**
 * Makes the ids of records that have none, and is the same whenever the same input is loaded. The place is part of it:
 * two parts of an input may well say the same, and are different records all the same.
 */
export function idempotencyKey({ lines }: Chunk, body: Buffer): string {
  return createHash('sha256').update(`${lines[0]?.number}\n`).update(body).digest('hex')
}

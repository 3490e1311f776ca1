import { type FileFormat, type InputLine, NDJSON, type Piece } from './lines.ts'
import type { Mapping } from './mapping.ts'
import { checkObjects } from './objects/check.ts'
import { planObjects } from './objects/mapping.ts'

/** A member that none of these objects has is a mistake, not an exception. As many as a request has. */
const SAMPLE_LINES = 1000
const SAMPLE_BYTES = 1024 * 1024

/**
 * Objects of JSON or NDJSON, as the mapping says. Nothing is sent before the first objects show that they fit the mapping.
 * @param format cuts the text into objects
 */
export function objects(format: FileFormat, mapping: Mapping): FileFormat {
  const toRecord = planObjects(mapping)
  return {
    async *read(bytes) {
      const pieces = format.read(bytes)[Symbol.asyncIterator]()
      const { sample, failure } = await takeSample(pieces)
      const first = sample.flatMap(({ lines }) => lines).slice(0, SAMPLE_LINES)
      checkObjects(first, mapping, format === NDJSON)
      for (const piece of sample) yield convert(piece)
      if (failure !== undefined) throw failure.error
      for await (const piece of { [Symbol.asyncIterator]: () => pieces }) yield convert(piece)
    },
  }

  function convert({ lines, reached }: Piece): Piece {
    return { lines: toRecord === undefined ? lines : lines.map(convertLine), reached }
  }

  function convertLine(line: InputLine): InputLine {
    const made = line.record === undefined ? undefined : toRecord?.(line.record)
    if (made === undefined) return line
    const { number, original } = line
    return 'reason' in made ? { number, original, ...made } : { number, original, record: Buffer.from(made.record) }
  }
}

/** @returns the first pieces, and the failure that ended them */
async function takeSample(pieces: AsyncIterator<Piece>): Promise<{ sample: Piece[]; failure?: { error: unknown } }> {
  const sample: Piece[] = []
  let [lines, bytes] = [0, 0]
  try {
    while (lines < SAMPLE_LINES && bytes < SAMPLE_BYTES) {
      const { value, done } = await pieces.next()
      if (done === true) break
      sample.push(value)
      lines += value.lines.length
      for (const { original } of value.lines) bytes += original.length
    }
    return { sample }
  } catch (error) {
    return { sample, failure: { error } }
  }
}

import { quoted } from '../lib/printable.ts'
import { type ObjectMember, readObject, valueAt } from './json-object.ts'
import type { FileFormat, InputLine, Piece } from './lines.ts'
import { attributesOf, type Mapping, makeUnfit, shell } from './mapping.ts'
import { planObjects } from './object-mapping.ts'

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
      checkSample(
        sample.flatMap(({ lines }) => lines),
        mapping,
      )
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

/** @throws Error with a sentence if the mapping, or the lack of one, fits none of the objects */
function checkSample(lines: readonly InputLine[], mapping: Mapping): void {
  const [first] = lines
  if (first === undefined) return
  const objects = lines.slice(0, SAMPLE_LINES).flatMap(({ record }) => {
    const read = record === undefined ? undefined : readObject(record.toString())
    return read === undefined || 'reason' in read ? [] : [read.members]
  })
  if (objects.length === 0) throw new Error(noObjects(first))
  const attributes = attributesOf(mapping)
  const isKnown = (name: string) => objects.some((members) => hasValue(members, attributes.get(name) ?? ''))
  const wrong = [...attributes].filter(([name]) => mapping.map.has(name) && !isKnown(name))
  const missing = ['source', 'type'].filter(
    (name) => !mapping.set.has(name) && !mapping.map.get(name) && !isKnown(name),
  )
  const names = new Set(objects.flatMap((members) => members.map(({ name }) => name)))
  if (wrong.length + missing.length === 0) return
  const problems = wrong.map(
    ([name, from]) => `no object has the member ${quoted(from)} of --map ${shell(`${name}=${from}`)}`,
  )
  throw makeUnfit(problems, missing, 'member', [...names])
}

function noObjects({ original }: InputLine): string {
  const begin = original.toString().slice(0, 60)
  return `it has no JSON object, and begins with ${quoted(begin)}. If it is CSV or TSV, use --format csv or --format tsv`
}

function hasValue(members: readonly ObjectMember[], from: string): boolean {
  try {
    return valueAt(members, from) !== undefined
  } catch {
    return true
  }
}

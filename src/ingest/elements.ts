import { type Extent, findRepeatedName, isFractional, isNameOfData, MAX_DEPTH, measure, newExtent } from './json.ts'
import type { JsonWalk } from './json-walk.ts'
import type { Unstorable } from './unstorable.ts'

/** One value of a body, with the facts that the checks need. */
export interface Element {
  /** The parsed value. For a large one only an outline: no check reads the payload or other nested values. */
  value: unknown
  extent: Extent
  /** The first repeated member name. */
  repeated: string | undefined
  /** Set by the walk over a large value. For others, `extent.suspicious` says whether to search for it. */
  unstorable?: Unstorable | undefined
}

/**
 * Longest text that is parsed in one call, in characters. In the worst case (thousands of members with different names),
 * JSON.parse takes some milliseconds for this length, and seconds for 16 MiB.
 */
export const MAX_PARSED = 65_536

/** Parses the object that begins at `start`. Undefined if it is not an object, longer than MAX_PARSED, or not valid JSON. */
export function parseElement(text: string, start: number): Element | undefined {
  if (text.charAt(start) !== '{') return undefined
  const extent = measure(text, start, Math.min(text.length, start + MAX_PARSED))
  if (extent === undefined) return undefined
  try {
    const value = JSON.parse(text.slice(start, extent.end))
    const isRepeated = extent.members !== Object.keys(value).length
    return { value, extent, repeated: isRepeated ? findRepeatedName(text, start) : undefined }
  } catch {
    // A walk finds the location of the error.
    return undefined
  }
}

/** The value that begins at `start`, made from a walk that found no fault. */
export function outlineElement(text: string, start: number, walk: JsonWalk): Element {
  const extent = { ...newExtent(start), end: walk.end, members: walk.memberCount }
  const outline: string[] = []
  for (const { nameStart, nameEnd, valueStart, valueEnd, depth } of walk.members) {
    const isData = isNameOfData(text, nameStart, nameEnd)
    if (isData) {
      extent.dataStart = valueStart
      extent.dataEnd = valueEnd
      extent.tooDeep = depth > MAX_DEPTH
    } else if (isFractional(text, valueStart, valueEnd)) extent.fractionalAt = nameStart
    const value = isData ? 'null' : depth > 0 ? '[]' : text.slice(valueStart, valueEnd)
    outline.push(`${text.slice(nameStart, nameEnd)}:${value}`)
  }
  const object = `{${outline.join()}}`
  const value = text.charAt(start) === '{' ? JSON.parse(object) : null
  const isRepeated = outline.length > 0 && outline.length !== Object.keys(value).length
  return { value, extent, repeated: isRepeated ? findRepeatedName(object, 0) : undefined, unstorable: walk.unstorable }
}

import { type Extent, findRepeatedName, isFractional, isNameOfData, MAX_DEPTH, measure, newExtent } from './json.ts'
import type { JsonWalk } from './json-walk.ts'
import type { Unstorable } from './unstorable.ts'

/** One value of a body, and what its checks have to know. */
export interface Element {
  /** As JSON.parse makes it. Of a large one the outline: no check looks at its payload, or at what is nested elsewhere. */
  value: unknown
  extent: Extent
  /** The first name that it has twice. */
  repeated: string | undefined
  /** Known of a large one; else `extent.suspicious` says whether to look. */
  unstorable?: Unstorable | undefined
}

/**
 * In characters. For the worst text of this length, thousands of members with different names, JSON.parse takes some
 * milliseconds; for one of 16 MiB seconds.
 */
export const MOST_PARSED = 65_536

/** The object that begins at `start`; undefined where none does, it is larger than is parsed at one go, or it is not JSON. */
export function parseElement(text: string, start: number): Element | undefined {
  if (text.charAt(start) !== '{') return undefined
  const extent = measure(text, start, Math.min(text.length, start + MOST_PARSED))
  if (extent === undefined) return undefined
  try {
    const value = JSON.parse(text.slice(start, extent.end))
    const isRepeated = extent.members !== Object.keys(value).length
    return { value, extent, repeated: isRepeated ? findRepeatedName(text, start) : undefined }
  } catch {
    // A walk finds where it breaks.
    return undefined
  }
}

/** The value that begins at `start`, after a walk over it without a fault. */
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

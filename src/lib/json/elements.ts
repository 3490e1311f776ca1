import { type Extent, findExtent, isFractional, MAX_DEPTH, nameAt, skipSpace } from './extent.ts'
import { walkAtOnce } from './parse.ts'
import type { Unstorable } from './unstorable.ts'
import type { JsonWalk } from './walk.ts'

/** One value of a body, with the facts that the checks need. */
export interface Element {
  /** The parsed value. After a walk only an outline: no check reads the payload or other nested values. */
  value: unknown
  extent: Extent
  /** Set by a walk only. A record without it has nothing unusual. */
  unusual?: Unusual
}

interface Unusual {
  /** Whether the payload is nested too deeply. */
  tooDeep: boolean
  /** The first repeated member name. */
  repeated: string | undefined
  /** The last member, other than `data`, whose value is a number with a fraction or an exponent. */
  fractional: string | undefined
  unstorable: Unstorable | undefined
}

/**
 * Maximum length of a text that is parsed in one call, in characters. In the worst case (thousands of members with different
 * names), JSON.parse takes some milliseconds for this length, and seconds for 16 MiB.
 */
const MAX_PARSED = 65_536

/**
 * Parses the object that begins at `start`. Undefined if a walk must decide: it is not an object, longer than MAX_PARSED, not
 * plain, or not valid JSON.
 */
export function parseElement(text: string, start: number): Element | undefined {
  if (text.charAt(start) !== '{') return undefined
  const extent = findExtent(text, start, Math.min(text.length, start + MAX_PARSED))
  if (extent === undefined) return undefined
  try {
    const value = JSON.parse(text.slice(start, extent.end))
    const names = Object.keys(value)
    const isRepeated = extent.members !== names.length
    const isEscapedData = extent.dataEnd === 0 && Object.hasOwn(value, 'data')
    // After other objects, V8 may read a name with escapes as its first characters (nodejs/node#63785).
    const isDoubtful = names.some((name) => name.includes('\\'))
    return isRepeated || isEscapedData || isDoubtful ? undefined : { value, extent }
  } catch {
    return undefined
  }
}

/** The value that begins at `start`, made from a walk that found no fault. */
export function outlineElement(text: string, start: number, walk: JsonWalk): Element {
  const extent = { start, end: walk.end, dataStart: 0, dataEnd: 0, members: walk.memberCount }
  const unusual: Unusual = { tooDeep: false, repeated: undefined, fractional: undefined, unstorable: walk.unstorable }
  const names = new Set<string>()
  const members: [string, unknown][] = []
  for (const { nameStart, valueStart, valueEnd, depth } of walk.members) {
    const name = nameAt(text, nameStart)
    if (names.has(name)) unusual.repeated ??= name
    names.add(name)
    if (name === 'data') {
      extent.dataStart = valueStart
      extent.dataEnd = valueEnd
      unusual.tooDeep ||= depth > MAX_DEPTH
    } else if (isFractional(text, valueStart, valueEnd)) unusual.fractional = name
    const value = name === 'data' ? null : depth > 0 ? [] : JSON.parse(text.slice(valueStart, valueEnd))
    members.push([name, value])
  }
  return { value: text.charAt(start) === '{' ? Object.fromEntries(members) : null, extent, unusual }
}

/**
 * The value of a short JSON text that `parsed` was parsed from, with the right names of its members: V8 may have read names with escapes
 * wrongly (nodejs/node#63785). Names further inside are not checked.
 */
export function parseOutermost(parsed: unknown, text: string): unknown {
  if (!Object.keys(parsed ?? {}).some((name) => name.includes('\\'))) return parsed
  const { members, memberCount } = walkAtOnce(text)
  // Of more members, most are unknown ones.
  if (Array.isArray(parsed) || memberCount > members.length) return parsed
  return Object.fromEntries(
    members.map(({ nameStart, valueStart, valueEnd }) => [
      nameAt(text, nameStart),
      JSON.parse(text.slice(valueStart, valueEnd)),
    ]),
  )
}

/** The first repeated member name of a short JSON text; undefined if there is none, or the text is not an object. */
export function findRepeatedName(text: string): string | undefined {
  const start = skipSpace(text, 0)
  return outlineElement(text, start, walkAtOnce(text)).unusual?.repeated
}

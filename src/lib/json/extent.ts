/**
 * Finds the bounds of values in JSON text, so that a payload can be stored as it was received, and an array can be
 * parsed element by element. These functions do not check the syntax. For text that is not JSON, their results are correct up to
 * the first error, and they always return. They know only plain objects: JsonWalk finds everything else, and is slower.
 */

/** PostgreSQL's parser is recursive: with the default max_stack_depth of 2 MB it fails beyond about 6,000 levels. */
export const MAX_DEPTH = 512

/** One object, as indexes into the text. */
export interface Extent {
  start: number
  end: number
  /** Bounds of the value of the member `data`. Both are 0 if there is none. */
  dataStart: number
  dataEnd: number
  /** Number of members in the text. If the parsed object has fewer keys, a name is repeated. */
  members: number
}

const QUOTE = 0x22,
  COMMA = 0x2c,
  BACKSLASH = 0x5c
const OPEN_ARRAY = 0x5b,
  CLOSE_ARRAY = 0x5d,
  OPEN_OBJECT = 0x7b,
  CLOSE_OBJECT = 0x7d

/** U+0000 and all surrogates, written as escapes. It also matches harmless text such as `\\u0000`. */
const RISKY_ESCAPE = /\\u(?:0000|[dD][89a-fA-F])/

/** The member name that begins at `start`. */
export function nameAt(text: string, start: number): string {
  const token = text.slice(start, skipString(text, start))
  return token.includes('\\') ? JSON.parse(token) : token.slice(1, -1)
}

/**
 * The extent of the object that begins at `start`; undefined if the object does not end at or before `limit`, or if it is not
 * plain: its payload may be nested too deeply or contain something that PostgreSQL cannot store, or a number in an attribute is
 * not an integer. A name `data` that is written with escapes is not recognized. The extent of text that is not JSON is arbitrary.
 */
export function findExtent(text: string, start: number, limit: number): Extent | undefined {
  const extent = { start, end: 0, dataStart: 0, dataEnd: 0, members: 0 }
  let at = skipSpace(text, start + 1)
  while (at < limit && text.charCodeAt(at) !== CLOSE_OBJECT) {
    const isData = text.startsWith('"data"', at)
    const valueStart = skipSpace(text, skipSpace(text, skipString(text, at, limit)) + 1) // over the colon
    at = skipValue(text, valueStart, limit)
    if (isData) {
      extent.dataStart = valueStart
      extent.dataEnd = at
    } else if (isFractional(text, valueStart, at)) return undefined
    extent.members++
    at = skipSpace(text, at)
    if (text.charCodeAt(at) === COMMA) at = skipSpace(text, at + 1)
  }
  extent.end = at + 1
  if (extent.end > limit || RISKY_ESCAPE.test(text.slice(extent.dataStart, extent.dataEnd))) return undefined
  return extent
}

/** Whether the value is a number that is not written as an integer. */
export function isFractional(text: string, start: number, end: number): boolean {
  // A minus or a digit. Most values are strings, and a slice of each would cost 5 %.
  return text.charCodeAt(start) <= 0x39 && text.charCodeAt(start) >= 0x2d && /[.eE]/.test(text.slice(start, end))
}

/** The index after the value that begins at `at`; more than `limit` if the value ends after it or is not plain. */
function skipValue(text: string, at: number, limit: number): number {
  let depth = 0
  for (;;) {
    const code = text.charCodeAt(at)
    switch (code) {
      case QUOTE:
        at = skipString(text, at, limit)
        break
      case OPEN_ARRAY:
      case OPEN_OBJECT:
        depth++
        at++
        break
      case CLOSE_ARRAY:
      case CLOSE_OBJECT:
        depth--
        at++
        break
      default:
        at = isAtom(code) ? skipAtom(text, at, limit) : at + 1 // a comma, a colon or white space
    }
    if (depth === 0) return at
    if (at >= limit || depth > MAX_DEPTH) return limit + 1
  }
}

/** The index after the string that begins at `at`; `limit` + 1 if the string does not end before `limit`. */
export function skipString(text: string, at: number, limit = text.length): number {
  for (let end = text.indexOf('"', at + 1); ; end = text.indexOf('"', end + 1)) {
    if (end === -1 || end >= limit) return limit + 1
    let slashes = 0
    while (text.charCodeAt(end - 1 - slashes) === BACKSLASH) slashes++
    if (slashes % 2 === 0) return end + 1
  }
}

/** Part of a number or a word */
const isAtom = (code: number) =>
  (code >= 0x2b && code <= 0x39 && code !== COMMA) || (code >= 0x61 && code <= 0x7a) || code === 0x45

/**
 * The index after the number or word that begins at `start`. A number of up to 4096 characters with an exponent from -9999 to
 * 99999 is in range for PostgreSQL's numeric. Other numbers are not plain.
 */
function skipAtom(text: string, start: number, limit: number): number {
  let at = start + 1
  let exponentAt = Number.POSITIVE_INFINITY
  for (let code = text.charCodeAt(at); isAtom(code); code = text.charCodeAt(++at)) {
    if (code === 0x65 || code === 0x45) exponentAt = at
  }
  return at - start > 4096 || at - exponentAt > 6 ? limit + 1 : at
}

export function skipSpace(text: string, at: number): number {
  for (;;) {
    const code = text.charCodeAt(at)
    if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return at
    at++
  }
}

/**
 * Finds the bounds of values in JSON text, so that a payload goes to PostgreSQL as it was received, and an array is parsed
 * element by element. These functions do not check the syntax. For text that is not JSON, their results are correct up to
 * the first error, and they always return.
 */

/** PostgreSQL's parser is recursive: with the default max_stack_depth of 2 MB it fails beyond about 6,000 levels. */
export const MAX_DEPTH = 512

/** One object of the body, as indexes into the text. */
export interface Extent {
  start: number
  end: number
  /** Bounds of the value of the member `data` (the last one, as in JSON.parse). Both are 0 if there is none. */
  dataStart: number
  dataEnd: number
  /** Number of members in the text. If the parsed object has fewer keys, a name is repeated. */
  members: number
  /** Is there something in the payload that PostgreSQL may not hold? `findUnstorable` decides. */
  suspicious: boolean
  /** Is the payload nested too deeply? */
  tooDeep: boolean
  /** Index of the name of the last member, other than `data`, whose value is a number with a fraction or an exponent; 0 if there is none. */
  fractionalAt: number
}

const QUOTE = 0x22,
  COMMA = 0x2c,
  BACKSLASH = 0x5c
const OPEN_ARRAY = 0x5b,
  CLOSE_ARRAY = 0x5d,
  OPEN_OBJECT = 0x7b,
  CLOSE_OBJECT = 0x7d

/** U+0000 and all surrogates, written as escapes. It also matches harmless text such as `\\u0000`: hence "suspicious". */
const RISKY_ESCAPE = /\\u(?:0000|[dD][89a-fA-F])/

/** The first repeated name in the object that begins at `start`. The object must have one. */
export function findRepeatedName(text: string, start: number): string {
  const names = new Set<string>()
  for (let at = skipSpace(text, start + 1); ; ) {
    const name = nameAt(text, at)
    if (names.has(name)) return name
    names.add(name)
    at = skipSpace(text, skipSpace(text, skipString(text, at)) + 1) // over the colon
    at = skipSpace(text, skipValue(text, at, text.length, newExtent(start)))
    at = skipSpace(text, at + 1) // over the comma
  }
}

/** The member name that begins at `start`. */
export const nameAt = (text: string, start: number): string => JSON.parse(text.slice(start, skipString(text, start)))

export function newExtent(start: number): Extent {
  return {
    start,
    end: 0,
    dataStart: 0,
    dataEnd: 0,
    members: 0,
    suspicious: false,
    tooDeep: false,
    fractionalAt: 0,
  }
}

/**
 * The extent of the object that begins at `start`; undefined if the object does not end at or before `limit`. The extent of
 * text that is not JSON is arbitrary.
 */
export function measure(text: string, start: number, limit: number): Extent | undefined {
  const extent = newExtent(start)
  let at = skipSpace(text, start + 1)
  while (at < limit && text.charCodeAt(at) !== CLOSE_OBJECT) {
    const nameStart = at
    const nameEnd = skipString(text, at, limit)
    const isData = isNameOfData(text, at, nameEnd)
    const { tooDeep } = extent
    at = skipSpace(text, skipSpace(text, nameEnd) + 1) // over the colon
    const valueStart = at
    at = skipValue(text, at, limit, extent)
    if (isData) {
      extent.dataStart = valueStart
      extent.dataEnd = at
    } else {
      extent.tooDeep = tooDeep
      if (isFractional(text, valueStart, at)) extent.fractionalAt = nameStart
    }
    extent.members++
    at = skipSpace(text, at)
    if (text.charCodeAt(at) === COMMA) at = skipSpace(text, at + 1)
  }
  extent.end = at + 1
  if (extent.end > limit) return undefined
  if (!extent.suspicious && extent.dataEnd > 0) {
    extent.suspicious = RISKY_ESCAPE.test(text.slice(extent.dataStart, extent.dataEnd))
  }
  return extent
}

/** A name written with escapes is still the same name. */
const DATA_ESCAPED = /^"(?:d|\\u0064)(?:a|\\u0061)(?:t|\\u0074)(?:a|\\u0061)"$/

export function isNameOfData(text: string, start: number, end: number): boolean {
  if (end - start === 6) return text.startsWith('data', start + 1)
  return end - start <= 26 && text.charCodeAt(end - 1) === QUOTE && DATA_ESCAPED.test(text.slice(start, end))
}

/** Is it a number that is not written as an integer? */
export function isFractional(text: string, start: number, end: number): boolean {
  return isNumberStart(text.charCodeAt(start)) && /[.eE]/.test(text.slice(start, end))
}

/** The index after the value that begins at `at`, or more than `limit` if the value ends after it. Sets what it finds in `extent`. */
function skipValue(text: string, at: number, limit: number, extent: Extent): number {
  let depth = 0
  for (;;) {
    const code = text.charCodeAt(at)
    switch (code) {
      case QUOTE:
        at = skipString(text, at, limit)
        break
      case OPEN_ARRAY:
      case OPEN_OBJECT:
        if (++depth > MAX_DEPTH) extent.tooDeep = true
        at++
        break
      case CLOSE_ARRAY:
      case CLOSE_OBJECT:
        depth--
        at++
        break
      default:
        if (isNumberStart(code)) at = skipNumber(text, at, extent)
        else if (code >= 0x61 && code <= 0x7a) at = skipWord(text, at)
        else at++ // a comma, a colon or white space
    }
    if (depth === 0) return at
    if (at >= limit) return limit + 1
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

const isNumberStart = (code: number) => code === 0x2d || (code >= 0x30 && code <= 0x39)

function skipNumber(text: string, start: number, extent: Extent): number {
  let at = start + 1
  for (
    let code = text.charCodeAt(at);
    (code >= 0x2b && code <= 0x39 && code !== COMMA) || code === 0x65 || code === 0x45;
    code = text.charCodeAt(++at)
  ) {
    // Only a number with an exponent or very many digits can be out of range for PostgreSQL's numeric.
    if (code >= 0x45) extent.suspicious = true
  }
  if (at - start > 4096) extent.suspicious = true
  return at
}

/** true, false, null */
function skipWord(text: string, at: number): number {
  while (text.charCodeAt(at) >= 0x61 && text.charCodeAt(at) <= 0x7a) at++
  return at
}

export function skipSpace(text: string, at: number): number {
  for (;;) {
    const code = text.charCodeAt(at)
    if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return at
    at++
  }
}

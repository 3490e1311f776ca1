/**
 * Finds where things are in JSON text, so that a payload can go to PostgreSQL as it was received, and an array can be parsed
 * element by element. The functions look for ends, not for errors. In text that is not JSON they are right up to where it
 * breaks, and come to an end.
 */

/** PostgreSQL's parser recurses: at its default max_stack_depth of 2 MB it gives up beyond some 6,000 levels. */
export const MAX_DEPTH = 512

/** One object of the body, as offsets into the text. */
export interface Extent {
  start: number
  end: number
  /** Where the value of its member `data` is; the last one, as in JSON.parse. Both 0: there is none. */
  dataStart: number
  dataEnd: number
  /** Members counted in the text: more than the parsed object has keys means that a name was repeated. */
  members: number
  /** Set by the payload: what only a closer look (`findUnstorable`) can clear. */
  suspicious: boolean
  /** Set by the payload. */
  tooDeep: boolean
  /** Where the name is of the last other member that is a number with a fraction or an exponent; 0: there is none. */
  fractionalAt: number
}

const QUOTE = 0x22,
  COMMA = 0x2c,
  BACKSLASH = 0x5c
const OPEN_ARRAY = 0x5b,
  CLOSE_ARRAY = 0x5d,
  OPEN_OBJECT = 0x7b,
  CLOSE_OBJECT = 0x7d

/** U+0000 and all surrogates, written as escapes. Also matches harmless text such as `\\u0000`: hence "suspicious". */
const RISKY_ESCAPE = /\\u(?:0000|[dD][89a-fA-F])/

/** The first name that an object has twice; the object begins at `start`, and does have one. */
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

/** The name that begins at `start`, which is that of a member. */
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
 * The extent of the object that begins at `start`; undefined where it does not end at `limit` or before. Of what is not JSON,
 * the extent is anything.
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

/** A name may be spelled with escapes, and is still that name. */
const DATA_ESCAPED = /^"(?:d|\\u0064)(?:a|\\u0061)(?:t|\\u0074)(?:a|\\u0061)"$/

export function isNameOfData(text: string, start: number, end: number): boolean {
  if (end - start === 6) return text.startsWith('data', start + 1)
  return end - start <= 26 && text.charCodeAt(end - 1) === QUOTE && DATA_ESCAPED.test(text.slice(start, end))
}

/** Is it a number that is not written as an integer? */
export function isFractional(text: string, start: number, end: number): boolean {
  return isNumberStart(text.charCodeAt(start)) && /[.eE]/.test(text.slice(start, end))
}

/** The offset after the value that begins at `at`, if that is not past `limit`; notes in `extent` what it saw on the way. */
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

/** The offset after the closing quote of the string whose opening quote is at `at`; where none is before `limit`, one past it. */
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
    // Only an exponent or very many digits can leave numeric's range.
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

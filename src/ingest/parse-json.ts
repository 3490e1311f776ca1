import { Problem } from '../lib/problems.ts'
import { skipSpace } from './json.ts'

/** Below this size JSON.parse takes milliseconds, whatever is in it; 16 MiB of `[` take it seconds. */
const COUNT_BRACKETS_ABOVE = 262_144
/** Far above MAX_DEPTH: a record that is merely too deep must not take the others of its batch with it. */
const MAX_DEPTH_PARSED = 100_000
/**
 * Objects and arrays cost 50 bytes of memory and more, each: 16 MiB of `[]` are more than the process has, and stop
 * everybody for seconds. Of real records, 16 MiB hold some 600,000.
 */
const MAX_BRACKETS_PARSED = 1_000_000

/**
 * JSON.parse, with an error that names the place and quotes nothing: the text around a fault is payload.
 * @param what names the text in the error's message
 * @throws Problem invalid_json, too_deep, too_complex
 */
export function parseJson(text: string, what = 'body'): unknown {
  if (text.length > COUNT_BRACKETS_ABOVE) {
    const { deepest, total } = countBrackets(text, MAX_DEPTH_PARSED, MAX_BRACKETS_PARSED)
    if (deepest > MAX_DEPTH_PARSED)
      throw new Problem('too_deep', `The ${what} is nested more than ${MAX_DEPTH_PARSED} levels deep.`)
    if (total > MAX_BRACKETS_PARSED) {
      const detail = `The ${what} holds more than ${MAX_BRACKETS_PARSED} objects and arrays. Send it in several requests.`
      throw new Problem('too_complex', detail)
    }
  }
  try {
    return JSON.parse(text)
  } catch (error) {
    const offset = offsetOf((error as SyntaxError).message, text)
    const place = offset === undefined ? 'it ends too early' : `it breaks at ${lineAndColumn(text, offset)}`
    throw new Problem('invalid_json', `The ${what} is not JSON: ${place}.`)
  }
}

/** Are there more than `max` brackets open at once? Takes any text. */
export const isDeeper = (text: string, max: number) => countBrackets(text, max, Number.POSITIVE_INFINITY).deepest > max

/** Brackets that are open at once, and that open at all; counted until one of them is past its bound. Takes any text. */
function countBrackets(text: string, maxDepth: number, maxTotal: number): { deepest: number; total: number } {
  let [depth, deepest, total] = [0, 0, 0]
  for (let at = 0; at < text.length && deepest <= maxDepth && total <= maxTotal; at++) {
    const code = text.charCodeAt(at)
    if (code === 0x5b || code === 0x7b) {
      total++
      if (++depth > deepest) deepest = depth
    } else if (code === 0x5d || code === 0x7d) depth--
    else if (code === 0x22) {
      do at = text.indexOf('"', at + 1)
      while (at !== -1 && isEscaped(text, at))
      if (at === -1) break // an unclosed string: JSON.parse will say so
    }
  }
  return { deepest, total }
}

function isEscaped(text: string, at: number): boolean {
  let slashes = 0
  while (text[at - 1 - slashes] === '\\') slashes++
  return slashes % 2 === 1
}

/**
 * V8 tells the position of most faults; of an unexpected token it quotes the surroundings instead, or all of a short
 * text (src/json/json-parser.cc, JsonParser::ReportUnexpectedToken).
 */
function offsetOf(message: string, text: string): number | undefined {
  const position = / JSON at position (\d+)(?: \(.*\))?$/.exec(message)?.[1]
  if (position !== undefined) return Number(position)
  return message.startsWith('Unexpected end') ? undefined : findUnexpected(text)
}

const VALUE_START = /["[{\d-]/

/**
 * Where a value should begin and none does, where true, false or null is misspelt, or where a backslash escapes a
 * character outside of ASCII. All before that place is known to be valid. Goes over the text once: searching it for the
 * quoted surroundings would take hours on a body made for that.
 */
function findUnexpected(text: string): number | undefined {
  let before = ','
  for (let at = skipSpace(text, 0); at < text.length; at = skipSpace(text, at)) {
    const char = text.charAt(at)
    const valueIsDue = before === ',' || before === ':' || (before === '[' && char !== ']')
    before = char
    if (char === '"') {
      for (at++; at < text.length && text[at] !== '"'; at++) {
        if (text[at] === '\\' && text.charCodeAt(++at) > 0x7f) return at
      }
      at++
    } else if (valueIsDue && !VALUE_START.test(char)) {
      const word = ['true', 'false', 'null'].find((word) => word.startsWith(char)) ?? ''
      let same = 0
      while (same < word.length && text[at + same] === word[same]) same++
      if (word === '' || same < word.length) return at + same
      at += same
    } else at++ // a bracket, a comma, a colon, or a character of a number
  }
  return undefined
}

function lineAndColumn(text: string, offset: number): string {
  const before = text.slice(0, offset)
  return `line ${before.split('\n').length}, column ${offset - before.lastIndexOf('\n')}`
}

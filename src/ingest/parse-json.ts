import { Problem } from '../lib/problems.ts'
import { MAX_DEPTH } from './json.ts'

/** Below this size JSON.parse takes milliseconds at any depth; 16 MiB of `[` take it seconds. */
const CHECK_DEPTH_ABOVE = 65_536

/**
 * JSON.parse, with an error that names the place and quotes nothing: the text around a fault is payload.
 * @throws Problem invalid_json, too_deep
 */
export function parseJson(text: string): unknown {
  if (text.length > CHECK_DEPTH_ABOVE && isDeep(text)) {
    throw new Problem('too_deep', `The body is nested more than ${MAX_DEPTH} levels deep.`)
  }
  try {
    return JSON.parse(text)
  } catch (error) {
    const offset = offsetOf((error as SyntaxError).message, text)
    const place = offset === undefined ? 'it ends too early' : `it breaks at ${lineAndColumn(text, offset)}`
    throw new Problem('invalid_json', `The body is not JSON: ${place}.`)
  }
}

function isDeep(text: string): boolean {
  let depth = 0
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === 0x5b || code === 0x7b) {
      // The array around a batch and the record itself are two.
      if (++depth > MAX_DEPTH + 2) return true
    } else if (code === 0x5d || code === 0x7d) depth--
    else if (code === 0x22) {
      do at = text.indexOf('"', at + 1)
      while (at !== -1 && isEscaped(text, at))
      if (at === -1) return false // an unclosed string: JSON.parse will say so
    }
  }
  return false
}

function isEscaped(text: string, at: number): boolean {
  let slashes = 0
  while (text[at - 1 - slashes] === '\\') slashes++
  return slashes % 2 === 1
}

/**
 * V8 tells most faults by position, but an unexpected token by the ten characters on either side of it, or, in a short
 * text, by all of it (src/json/json-parser.cc, "kJsonParseUnexpectedToken…").
 */
function offsetOf(message: string, text: string): number | undefined {
  const position = /at position (\d+)/.exec(message)?.[1]
  if (position !== undefined) return Number(position)
  const [, cut, around] = /^Unexpected token .+?, (\.\.\.)?"(.*)"(?:\.\.\.)? is not valid JSON$/su.exec(message) ?? []
  if (around === undefined) return undefined
  if (cut !== undefined) {
    for (let start = text.indexOf(around); start !== -1; start = text.indexOf(around, start + 1)) {
      if (breaksBefore(text, start + 11)) return start + 10
    }
    return undefined
  }
  for (let end = 1; end <= around.length; end++) if (breaksBefore(text, end)) return end - 1
  return undefined
}

/** Does the text have its unexpected token before `end`? What is merely cut short has another message. */
function breaksBefore(text: string, end: number): boolean {
  try {
    JSON.parse(text.slice(0, end))
  } catch (error) {
    return (error as SyntaxError).message.startsWith('Unexpected token')
  }
  return false
}

function lineAndColumn(text: string, offset: number): string {
  const before = text.slice(0, offset)
  return `line ${before.split('\n').length}, column ${offset - before.lastIndexOf('\n')}`
}

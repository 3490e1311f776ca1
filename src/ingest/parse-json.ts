import { Problem } from '../lib/problems.ts'
import { isTurnOver, waitForTurn } from '../lib/turns.ts'
import { skipSpace } from './json.ts'
import { JsonWalk, MAX_DEPTH_WALKED } from './json-walk.ts'

/** In characters: what is walked between two looks at the clock, in less than a millisecond. */
const STEP = 65_536

/** Why a text is not JSON that can be taken. */
export interface JsonFault {
  code: 'invalid_json' | 'too_deep'
  detail: string
}

/**
 * JSON.parse, with an error that names the place and quotes nothing: the text around a fault is payload. For short texts.
 * @throws Problem invalid_json
 */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throwFault(faultOf(walkAtOnce(text), text))
    throw error
  }
}

/** Are there more than `max` levels open at once? Takes any text, a short one. */
export const isDeeper = (text: string, max: number) => walkAtOnce(text).deepest > max

export function walkAtOnce(text: string): JsonWalk {
  const walk = new JsonWalk(text, 0)
  walk.run(text.length + 1)
  return walk
}

/**
 * Walks over the value that begins at `start`, in turns of the event loop.
 * @param owner of the turns: see lib/turns.ts
 */
export async function walkJson(text: string, start: number, owner: string): Promise<JsonWalk> {
  const walk = new JsonWalk(text, start)
  do {
    if (isTurnOver()) await waitForTurn(owner)
  } while (!walk.run(STEP))
  return walk
}

/**
 * Checks that the text is one JSON value, in turns of the event loop.
 * @param owner of the turns
 * @param start where it begins, if that is known
 * @throws Problem invalid_json, too_deep
 */
export async function checkJson(text: string, owner: string, start = 0): Promise<void> {
  throwFault(faultOf(await walkJson(text, start, owner), text))
}

export function throwFault(fault: JsonFault | undefined): void {
  if (fault !== undefined) throw new Problem(fault.code, fault.detail)
}

/** @param what names the text in the error's message */
export const faultOf = (walk: JsonWalk, text: string, what = 'body'): JsonFault | undefined =>
  faultInside(walk, text, what) ?? faultAfter(walk.end, text, what)

/** The same, where more may come after the value. */
export function faultInside(walk: JsonWalk, text: string, what = 'body'): JsonFault | undefined {
  if (walk.fault !== undefined) return notJson(text, walk.fault, what)
  if (walk.deepest <= MAX_DEPTH_WALKED) return undefined
  return { code: 'too_deep', detail: `The ${what} is nested more than ${MAX_DEPTH_WALKED} levels deep.` }
}

/** Is there more than white space after the value? */
export function faultAfter(end: number, text: string, what = 'body'): JsonFault | undefined {
  const next = skipSpace(text, end)
  return next < text.length ? notJson(text, next, what) : undefined
}

/** @param offset where the text breaks; its length, where it ends too early */
export function notJson(text: string, offset: number, what = 'body'): JsonFault {
  const place = offset >= text.length ? 'it ends too early' : `it breaks at ${lineAndColumn(text, offset)}`
  return { code: 'invalid_json', detail: `The ${what} is not JSON: ${place}.` }
}

/** Not by splitting the text at its newlines: there may be millions. */
function lineAndColumn(text: string, offset: number): string {
  let line = 1
  let lineStart = 0
  for (let at = 0; at < offset; at++) {
    if (text.charCodeAt(at) !== 0x0a) continue
    line++
    lineStart = at + 1
  }
  return `line ${line}, column ${offset - lineStart + 1}`
}

import { Problem } from '../../problems.ts'
import { isTurnOver, waitForTurn } from '../turns.ts'
import { skipSpace } from './extent.ts'
import { JsonWalk, MAX_DEPTH_WALKED } from './walk.ts'

/** Characters that are walked between two checks of the clock. They take less than a millisecond. */
const STEP = 65_536

/** Why a text is not acceptable JSON. */
interface JsonFault {
  code: 'invalid_json' | 'too_deep'
  detail: string
}

/**
 * JSON.parse for short texts, with an error that has the location but quotes nothing, because the text may be a client's payload.
 * @throws Problem invalid_json, too_deep
 */
export function parseJson(text: string): unknown {
  throwFault(jsonFault(walkAtOnce(text), text))
  return JSON.parse(text)
}

/** Walks over a short text, which need not be JSON. */
export function walkAtOnce(text: string): JsonWalk {
  const walk = new JsonWalk(text, 0)
  walk.run(text.length + 1)
  return walk
}

/**
 * Walks over the value that begins at `start`, in turns (lib/turns.ts). Returns a promise only if the value is long, because a
 * promise costs as much as walking over a small record.
 * @param owner id of the API key that takes turns
 */
export function walkJson(text: string, start: number, owner: string): JsonWalk | Promise<JsonWalk> {
  const walk = new JsonWalk(text, start)
  return walk.run(STEP) ? walk : finishWalk(walk, owner)
}

async function finishWalk(walk: JsonWalk, owner: string): Promise<JsonWalk> {
  do {
    if (isTurnOver()) await waitForTurn(owner)
  } while (!walk.run(STEP))
  return walk
}

/**
 * Checks that the text is one JSON value, in turns (lib/turns.ts).
 * @param owner id of the API key that takes turns
 * @param start index where the value begins, if it is known
 * @throws Problem invalid_json, too_deep
 */
export async function checkJson(text: string, owner: string, start = 0): Promise<void> {
  throwFault(jsonFault(await walkJson(text, start, owner), text))
}

export function throwFault(fault: JsonFault | undefined): void {
  if (fault !== undefined) throw new Problem(fault.code, fault.detail)
}

/** @param what the name of the text in the error message */
export const jsonFault = (walk: JsonWalk, text: string, what = 'body'): JsonFault | undefined =>
  faultInside(walk, text, what) ?? faultAfter(walk.end, text, what)

/** Like `jsonFault`, but ignores the text after the value. */
export function faultInside(walk: JsonWalk, text: string, what = 'body'): JsonFault | undefined {
  if (walk.fault !== undefined) return notJson(text, walk.fault, what)
  if (walk.deepest <= MAX_DEPTH_WALKED) return undefined
  return { code: 'too_deep', detail: `The ${what} is nested more than ${MAX_DEPTH_WALKED} levels deep.` }
}

/** The fault if anything other than white space follows the value. */
export function faultAfter(end: number, text: string, what = 'body'): JsonFault | undefined {
  const next = skipSpace(text, end)
  return next < text.length ? notJson(text, next, what) : undefined
}

/** @param index index of the first invalid character; the length of the text if it ends too early */
export function notJson(text: string, index: number, what = 'body'): JsonFault {
  const why = index >= text.length ? 'it ends too early' : `the error is at ${lineAndColumn(text, index)}`
  return { code: 'invalid_json', detail: `The ${what} is not JSON: ${why}.` }
}

/** Does not split the text at its newlines, because there may be millions. */
function lineAndColumn(text: string, index: number): string {
  let line = 1
  let lineStart = 0
  for (let at = 0; at < index; at++) {
    if (text.charCodeAt(at) !== 0x0a) continue
    line++
    lineStart = at + 1
  }
  return `line ${line}, column ${index - lineStart + 1}`
}

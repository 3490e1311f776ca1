import { Problem } from '../../problems.ts'
import { textHint } from '../looks-like.ts'
import { isTurnOver, waitForTurn } from '../turns.ts'
import { skipSpace } from './extent.ts'
import { syntaxHint } from './syntax-hint.ts'
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

/** @param line the number of the line in its stream, if the text is a line and not a whole body */
export const jsonFault = (walk: JsonWalk, text: string, line?: number): JsonFault | undefined =>
  faultInside(walk, text, line) ?? faultAfter(walk.end, text, line)

/** Like `jsonFault`, but ignores the text after the value. */
export function faultInside(walk: JsonWalk, text: string, line?: number): JsonFault | undefined {
  if (walk.fault !== undefined) return notJson(text, walk.fault, line)
  if (walk.deepest <= MAX_DEPTH_WALKED) return undefined
  return { code: 'too_deep', detail: `The ${nameOf(line)} is nested more than ${MAX_DEPTH_WALKED} levels deep.` }
}

/** The fault if anything other than white space follows the value. */
export function faultAfter(end: number, text: string, line?: number): JsonFault | undefined {
  const next = skipSpace(text, end)
  if (next === text.length) return undefined
  const isValue = /[{[]/.test(text.charAt(next))
  return notJson(text, next, line, isValue ? SECOND_VALUE[nameOf(line)] : 'Nothing may follow the end of the value')
}

/**
 * @param index index of the first invalid character; the length of the text if it ends too early
 * @param hint what is wrong there, if it is known
 */
export function notJson(text: string, index: number, line?: number, hint?: string): JsonFault {
  const name = nameOf(line)
  const isEnd = index >= text.length
  const why = isEnd ? 'it ends too early' : `the error is at ${lineAndColumn(text, index, line)}`
  const advice = textHint(text) ?? hint ?? (isEnd ? TOO_EARLY[name] : syntaxHint(text, index))
  return {
    code: 'invalid_json',
    detail: `The ${name} is not JSON: ${why}.${advice === undefined ? '' : ` ${advice}.`}`,
  }
}

const nameOf = (line: number | undefined) => (line === undefined ? 'body' : 'line')

const SECOND_VALUE = {
  body: 'Another value begins there. Send one record per line with Content-Type: application/x-ndjson (a file with curl --data-binary, because -d removes its line breaks), or send an array',
  line: 'Another value begins there. Each record needs its own line (send a file with curl --data-binary, because -d removes its line breaks)',
}

const TOO_EARLY = {
  body: 'A quote or a bracket is not closed',
  line: 'A quote or a bracket is not closed. If a record spans several lines, send it with Content-Type: application/json',
}

/** Does not split the text at its newlines, because there may be millions. */
function lineAndColumn(text: string, index: number, firstLine = 1): string {
  let line = firstLine
  let lineStart = 0
  for (let at = 0; at < index; at++) {
    if (text.charCodeAt(at) !== 0x0a) continue
    line++
    lineStart = at + 1
  }
  return `line ${line}, column ${index - lineStart + 1}`
}

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

/**
 * What a text is: the number of a line in its stream, a whole body, a record of a file (whose line is
 * said elsewhere), a file, or a parameter of a query. The names of the last two are for messages.
 */
type Place = number | 'body' | 'record' | { file: string } | { parameter: string }

export const jsonFault = (walk: JsonWalk, text: string, place: Place = 'body'): JsonFault | undefined =>
  faultInside(walk, text, place) ?? faultAfter(walk.end, text, place)

/** Like `jsonFault`, but ignores the text after the value. */
export function faultInside(walk: JsonWalk, text: string, place: Place = 'body'): JsonFault | undefined {
  if (walk.fault !== undefined) return notJson(text, walk.fault, place)
  if (walk.deepest <= MAX_DEPTH_WALKED) return undefined
  return { code: 'too_deep', detail: `${subjectOf(place)} is nested more than ${MAX_DEPTH_WALKED} levels deep.` }
}

/** The fault if anything other than white space follows the value. */
export function faultAfter(end: number, text: string, place: Place = 'body'): JsonFault | undefined {
  const next = skipSpace(text, end)
  if (next === text.length) return undefined
  const { second, after } = ADVICE[kindOf(place)]
  return notJson(text, next, place, /[{[]/.test(text.charAt(next)) ? second : after)
}

/**
 * @param index index of the first invalid character; the length of the text if it ends too early
 * @param hint what is wrong there, if it is known
 */
export function notJson(text: string, index: number, place: Place = 'body', hint?: string): JsonFault {
  const { start, end, quotes } = ADVICE[kindOf(place)]
  const isEnd = index >= text.length
  const where = isEnd
    ? 'it ends too early'
    : `the error is at ${place === 'record' ? `character ${index + 1} of it` : lineAndColumn(text, index, place)}`
  // In UTF-16, every second byte is zero.
  const isAlmostJson = /^\s*[[{](?!\0)/.test(text)
  const advice = isAlmostJson
    ? (hint ?? (isEnd ? end : syntaxHint(text, index, quotes)))
    : (formatOf(text, place) ?? start)
  return {
    code: 'invalid_json',
    detail: `${subjectOf(place)} is not JSON: ${where}.${advice === undefined ? '' : ` ${advice}.`}`,
  }
}

function kindOf(place: Place): keyof typeof ADVICE {
  if (typeof place === 'number') return 'line'
  return typeof place === 'string' ? place : 'file' in place ? 'file' : 'parameter'
}

function subjectOf(place: Place): string {
  if (typeof place !== 'object') return `The ${kindOf(place)}`
  return 'file' in place ? place.file : place.parameter
}

/** A parameter or one record is too short to be a file, and what to do about a body would mislead. */
const formatOf = (text: string, place: Place) =>
  ['parameter', 'record'].includes(kindOf(place)) ? undefined : textHint(text)

const SHELLS = 'In cmd.exe and PowerShell, quotes are often lost: send a file (curl --data-binary @FILE)'
const ENCODE = 'Encode the parameter: curl -G --data-urlencode \'data={"total":12.5}\''

/**
 * What to do, by place: if the text does not begin like JSON, if it ends too early, if another object or array follows, if
 * something else follows, and if quotes are missing.
 */
const ADVICE = {
  body: {
    start: 'JSON begins with { or [, such as {"source":"shop","type":"order.placed"}',
    end: 'A quote or a bracket is not closed',
    second:
      'Another value begins there. Send one record per line with Content-Type: application/x-ndjson (a file with curl --data-binary, because -d removes its line breaks), or send an array',
    after: 'Nothing may follow the end of the value',
    quotes: SHELLS,
  },
  line: {
    start: 'Each line must be a JSON object, such as {"source":"shop","type":"order.placed"}',
    end: 'A quote or a bracket is not closed. If a record or an array takes several lines, send it with Content-Type: application/json',
    second:
      'Another value begins there. Each record needs its own line (send a file with curl --data-binary, because -d removes its line breaks)',
    after: 'Nothing may follow the record, not even a comma',
    quotes: SHELLS,
  },
  record: {
    start: 'A record must be a JSON object, such as {"number":7,"total":12.5}',
    end: 'A quote or a bracket is not closed. If a record or an array takes several lines, use --format json',
    second: 'Another value begins there. Begin a line for each record, or use --format json',
    after: 'Nothing may follow the end of the record, not even a comma',
    quotes: undefined,
  },
  file: {
    start: 'JSON begins with { or [',
    end: 'A quote or a bracket is not closed',
    second: 'Nothing may follow the end of the value',
    after: 'Nothing may follow the end of the value',
    quotes: undefined,
  },
  // curl removes braces from a URL: {"a":1} arrives as "a":1.
  parameter: {
    start: `Write text with its quotes, such as "shop", and an object with its braces. ${ENCODE}`,
    end: `A quote or a bracket is not closed. ${ENCODE}`,
    second: `Nothing may follow the end of the value. ${ENCODE}`,
    after: `Nothing may follow the end of the value. ${ENCODE}`,
    quotes: ENCODE,
  },
}

/** Does not split the text at its newlines, because there may be millions. */
function lineAndColumn(text: string, index: number, place: Place): string {
  let line = typeof place === 'number' ? place : 1
  let lineStart = 0
  for (let at = 0; at < index; at++) {
    if (text.charCodeAt(at) !== 0x0a) continue
    line++
    lineStart = at + 1
  }
  return `line ${line}, column ${index - lineStart + 1}`
}

import { nameAt, skipSpace, skipString } from './extent.ts'

/** A value that is wanted, by its index in the result, or values within it by the names of members or the positions in arrays. */
export type Wanted = number | Map<string, Wanted>

/**
 * Finds values in a JSON text that is known to be valid, in one pass, however many are wanted. Of members with the same name, the last
 * one counts, as for JSON.parse.
 * @param values gets the text of each value that is found; null: it was not found
 */
export function pick(text: string, wanted: Wanted, values: (string | null)[]): void {
  readValue(text, skipSpace(text, 0), wanted, { values, entered: new Set() })
}

interface Result {
  values: (string | null)[]
  /** What may have values, or may have been entered further inside. */
  entered: Set<Wanted>
}

/** @returns the index after the value that begins at `at` */
function readValue(text: string, at: number, wanted: Wanted, result: Result): number {
  if (typeof wanted === 'number') {
    const end = skipValue(text, at)
    result.values[wanted] = text.slice(at, end)
    return end
  }
  forget(wanted, result)
  result.entered.add(wanted)
  const isObject = text.charAt(at) === '{'
  if (!isObject && text.charAt(at) !== '[') return skipValue(text, at)
  at = skipSpace(text, at + 1)
  for (let position = 0; text.charAt(at) !== (isObject ? '}' : ']'); position++) {
    const name = isObject ? nameAt(text, at) : String(position)
    if (isObject) at = skipSpace(text, skipSpace(text, skipString(text, at)) + 1) // over the colon
    const inner = wanted.get(name)
    at = skipSpace(text, inner === undefined ? skipValue(text, at) : readValue(text, at, inner, result))
    if (text.charAt(at) === ',') at = skipSpace(text, at + 1)
  }
  return at + 1
}

/**
 * Removes what an earlier member with the same name contained. It visits only what was entered: a name may be repeated a hundred thousand
 * times, and what is wanted below it may have thousands of steps.
 */
function forget(wanted: Wanted, result: Result): void {
  if (typeof wanted === 'number') result.values[wanted] = null
  else if (result.entered.delete(wanted)) for (const inner of wanted.values()) forget(inner, result)
}

const STRING_OR_BRACKET = /["[\]{}]/g
const END_OF_ATOM = /[\s,\]}]|$/g

function skipValue(text: string, at: number): number {
  const first = text.charAt(at)
  if (first === '"') return skipString(text, at)
  if (first !== '{' && first !== '[') return indexOf(END_OF_ATOM, text, at)
  let depth = 0
  do {
    at = indexOf(STRING_OR_BRACKET, text, at)
    const found = text.charAt(at)
    if (found === '"') at = skipString(text, at) - 1
    else depth += found === '{' || found === '[' ? 1 : -1
    at++
  } while (depth > 0)
  return at
}

function indexOf(expression: RegExp, text: string, from: number): number {
  expression.lastIndex = from
  return expression.exec(text)?.index ?? text.length
}

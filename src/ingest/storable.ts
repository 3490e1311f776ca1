import { skipSpace, skipString } from './json.ts'

export interface Unstorable {
  /** JSON Pointer (RFC 6901) to the value, or to the member whose name it is. */
  pointer: string
  code: 'unstorable_string' | 'unstorable_number'
  detail: string
}

/**
 * The first thing in a payload that PostgreSQL's jsonb, and with it every query on the data, could not hold: U+0000 or a
 * lone surrogate in a string or a name, or a number beyond numeric. Slow and exact; called for suspicious text only.
 * @param text   one JSON value, valid and at most MAX_DEPTH deep
 * @param pointer where that value stands in the record
 */
export function findUnstorable(text: string, pointer: string): Unstorable | undefined {
  let at = 0
  return value(pointer)

  function value(here: string): Unstorable | undefined {
    at = skipSpace(text, at)
    const first = text.charAt(at)
    if (first === '"') return checkString(take(skipString(text, at)), here)
    if (first === '[') return elements(here)
    if (first === '{') return members(here)
    const token = take(scalarEnd(text, at))
    return /[-\d]/.test(first) ? checkNumber(token, here) : undefined
  }

  function elements(here: string): Unstorable | undefined {
    at = skipSpace(text, at + 1)
    for (let index = 0; text.charAt(at) !== ']'; index++) {
      const found = value(`${here}/${index}`)
      if (found !== undefined) return found
      overComma()
    }
    at++
    return undefined
  }

  function members(here: string): Unstorable | undefined {
    at = skipSpace(text, at + 1)
    while (text.charAt(at) !== '}') {
      const name = take(skipString(text, at))
      const below = `${here}/${pointerToken(JSON.parse(name))}`
      at = skipSpace(text, at) + 1 // over the colon
      const found = checkString(name, below) ?? value(below)
      if (found !== undefined) return found
      overComma()
    }
    at++
    return undefined
  }

  function overComma(): void {
    at = skipSpace(text, at)
    if (text.charAt(at) === ',') at = skipSpace(text, at + 1)
  }

  function take(end: number): string {
    const token = text.slice(at, end)
    at = end
    return token
  }
}

/** A name as a step of a JSON Pointer (RFC 6901, section 3). A lone surrogate cannot be sent back: U+FFFD stands for it. */
export function pointerToken(name: string): string {
  return name.toWellFormed().replaceAll('~', '~0').replaceAll('/', '~1')
}

function scalarEnd(text: string, at: number): number {
  while (/[-+.\w]/.test(text.charAt(at))) at++
  return at
}

function checkString(token: string, pointer: string): Unstorable | undefined {
  if (!token.includes('\\u')) return undefined
  const string: string = JSON.parse(token)
  const what = string.includes('\0') ? 'U+0000' : string.isWellFormed() ? undefined : 'a lone surrogate'
  if (what === undefined) return undefined
  return {
    pointer,
    code: 'unstorable_string',
    detail: `The string holds ${what}, which PostgreSQL cannot keep in text.`,
  }
}

/** PostgreSQL manual, 8.1.2. Digits after the point are counted as written, trailing zeros too. */
const MAX_DIGITS_BEFORE_POINT = 131_072
const MAX_DIGITS_AFTER_POINT = 16_383
/** numeric's input gives up on such an exponent even where the number is zero. */
const MAX_EXPONENT = 1_073_741_823

function checkNumber(token: string, pointer: string): Unstorable | undefined {
  const [, whole = '', fraction = '', exponentText = '0'] = /^-?(\d+)(?:\.(\d+))?(?:[eE]([-+]?\d+))?$/.exec(token) ?? []
  const exponent = Number(exponentText)
  const significant = (whole + fraction).replace(/^0+/, '').length
  const before = significant === 0 ? 0 : significant - fraction.length + exponent
  const after = fraction.length - exponent
  if (before <= MAX_DIGITS_BEFORE_POINT && after <= MAX_DIGITS_AFTER_POINT && Math.abs(exponent) <= MAX_EXPONENT) {
    return undefined
  }
  const shown = token.length > 40 ? `${token.slice(0, 37)}...` : token
  const detail = `${shown} is beyond PostgreSQL's numeric, which has at most ${MAX_DIGITS_BEFORE_POINT} digits before the decimal point and ${MAX_DIGITS_AFTER_POINT} after it.`
  return { pointer, code: 'unstorable_number', detail }
}

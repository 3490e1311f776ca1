/** A part of a payload that PostgreSQL's jsonb cannot store, so that every query on the data would fail. */
export interface Unstorable {
  /** JSON Pointer (RFC 6901) to the value, or to the member with the name. */
  pointer: string
  code: 'unstorable_string' | 'unstorable_number'
  detail: string
}

/** A name as a token of a JSON Pointer (RFC 6901, section 3). UTF-8 cannot contain a lone surrogate: U+FFFD replaces it. */
export function pointerToken(name: string): string {
  return name.toWellFormed().replaceAll('~', '~0').replaceAll('/', '~1')
}

/**
 * Checks a string.
 * @param token the string in JSON, with its quotes
 * @param pointer returns the JSON Pointer to it; called only if there is a fault
 */
export function checkString(token: string, pointer: () => string): Unstorable | undefined {
  const string: string = JSON.parse(token)
  const what = string.includes('\0') ? ZERO : string.isWellFormed() ? undefined : LONE_SURROGATE
  if (what === undefined) return undefined
  return {
    pointer: pointer(),
    code: 'unstorable_string',
    detail: `The string contains ${what}`,
  }
}

const ZERO = 'U+0000, which PostgreSQL cannot store in text. Remove it, or send the bytes in data_base64.'
const LONE_SURROGATE =
  'a lone surrogate, which PostgreSQL cannot store in text. It is half of a character: a program cut the string within it.'

/** PostgreSQL manual, section 8.1.2. Trailing zeros after the decimal point count as digits. */
export const MAX_DIGITS_BEFORE_POINT = 131_072
export const MAX_DIGITS_AFTER_POINT = 16_383
/** Beyond this exponent, numeric's input function fails even for the number zero. */
const MAX_EXPONENT = 1_073_741_823

/** Checks a number, with the same parameters as `checkString`. */
export function checkNumber(token: string, pointer: () => string): Unstorable | undefined {
  const [, whole = '', fraction = '', exponentText = '0'] = /^-?(\d+)(?:\.(\d+))?(?:[eE]([-+]?\d+))?$/.exec(token) ?? []
  const exponent = Number(exponentText)
  const significant = (whole + fraction).replace(/^0+/, '').length
  const before = significant === 0 ? 0 : significant - fraction.length + exponent
  const after = fraction.length - exponent
  if (before <= MAX_DIGITS_BEFORE_POINT && after <= MAX_DIGITS_AFTER_POINT && Math.abs(exponent) <= MAX_EXPONENT) {
    return undefined
  }
  const shown = token.length > 40 ? `${token.slice(0, 37)}...` : token
  const detail = `${shown} is out of range for PostgreSQL's numeric, which has at most ${MAX_DIGITS_BEFORE_POINT} digits before the decimal point and ${MAX_DIGITS_AFTER_POINT} after it. Send it as a string.`
  return { pointer: pointer(), code: 'unstorable_number', detail }
}

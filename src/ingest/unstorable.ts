/** What PostgreSQL's jsonb, and with it every query on the data, could not hold. */
export interface Unstorable {
  /** JSON Pointer (RFC 6901) to the value, or to the member whose name it is. */
  pointer: string
  code: 'unstorable_string' | 'unstorable_number'
  detail: string
}

/** A name as a step of a JSON Pointer (RFC 6901, section 3). A lone surrogate cannot be sent back: U+FFFD stands for it. */
export function pointerToken(name: string): string {
  return name.toWellFormed().replaceAll('~', '~0').replaceAll('/', '~1')
}

/**
 * @param token a string of JSON
 * @param pointer to it, made only where it is needed
 */
export function checkString(token: string, pointer: () => string): Unstorable | undefined {
  const string: string = JSON.parse(token)
  const what = string.includes('\0') ? 'U+0000' : string.isWellFormed() ? undefined : 'a lone surrogate'
  if (what === undefined) return undefined
  return {
    pointer: pointer(),
    code: 'unstorable_string',
    detail: `The string holds ${what}, which PostgreSQL cannot keep in text.`,
  }
}

/** PostgreSQL manual, 8.1.2. Digits after the point are counted as written, trailing zeros too. */
const MAX_DIGITS_BEFORE_POINT = 131_072
const MAX_DIGITS_AFTER_POINT = 16_383
/** numeric's input gives up on such an exponent even where the number is zero. */
const MAX_EXPONENT = 1_073_741_823

/** The same for a number. */
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
  const detail = `${shown} is beyond PostgreSQL's numeric, which has at most ${MAX_DIGITS_BEFORE_POINT} digits before the decimal point and ${MAX_DIGITS_AFTER_POINT} after it.`
  return { pointer: pointer(), code: 'unstorable_number', detail }
}

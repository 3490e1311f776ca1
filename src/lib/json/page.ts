/**
 * A page of GET /v1/records as JSON: `{"records":[…],"next":…}`, with `count` if it was asked for. It can be sent back as
 * it is: its records are then the records of the request. No record looks like this, because an attribute cannot be an array.
 */
const OTHER = String.raw`(?:"next"\s*:\s*(?:null|"[\w-]*")|"count"\s*:\s*\d+)`

/** Up to the bracket of the array. Tools like jq may have sorted the members, or added white space. */
const HEAD = new RegExp(String.raw`\s*\{\s*(?:${OTHER}\s*,\s*){0,2}"records"\s*:\s*\[`, 'y')

/** After the bracket of the array. */
const TAIL = new RegExp(String.raw`\s*(?:,\s*${OTHER}\s*){0,2}\}`, 'y')

/** The head of a page fits into this many characters, unless it is mostly white space. */
export const PAGE_HEAD_SIZE = 256

/** Index after the array's opening bracket if a page begins at `at`, otherwise -1. */
export const pageArrayAt = (text: string, at: number): number => matchAt(HEAD, text, at)

/** Index after the page whose array ended before `at`; -1 if something else follows the array. */
export const pageEndAt = (text: string, at: number): number => matchAt(TAIL, text, at)

function matchAt(pattern: RegExp, text: string, at: number): number {
  pattern.lastIndex = at
  return pattern.test(text) ? pattern.lastIndex : -1
}

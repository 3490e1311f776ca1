import type { IncomingHttpHeaders } from 'node:http'
import { quoted } from '../lib/quoted.ts'
import { Problem } from '../problems.ts'

/** Which existing states a request is for: any, or those with these ETags, without their quotes. */
type Tags = 'any' | string[]

/** An element of a list of ETags, which may be empty (RFC 9110, sections 5.6.1.2 and 8.8.3). */
const ELEMENT = /[ \t]*(?:(W\/)?"([\x21\x23-\x7e\x80-\xff]*)"[ \t]*)?(?:,|$)/y

/**
 * Reads the condition of a request that creates or changes something. A change needs one, so that nobody overwrites what others have
 * stored meanwhile.
 * @param what the path, for the message
 * @returns `absent`: it must not exist
 * @throws Problem precondition_required (RFC 6585, section 3), invalid_header
 */
export function readCondition(headers: IncomingHttpHeaders, what: string): 'absent' | Tags {
  const { 'if-none-match': none } = headers
  const tags = readIfMatch(headers)
  if (none === undefined && tags === undefined)
    throw new Problem(
      'precondition_required',
      `Send a condition: If-None-Match: * creates ${what}, and If-Match: "…", with the ETag of your last response about it, changes it.`,
    )
  if (none === undefined) return tags as Tags
  if (tags !== undefined) throw invalid('if-none-match', 'Send either If-Match or If-None-Match, not both.')
  if (none.trim() !== '*')
    throw invalid('if-none-match', `If-None-Match must be *, which creates ${what}. To change it, send If-Match.`)
  return 'absent'
}

/**
 * Reads If-Match (RFC 9110, section 13.1.1). Weak ETags are left out: they never match (section 8.8.3.2).
 * @throws Problem invalid_header
 */
export function readIfMatch({ 'if-match': header }: IncomingHttpHeaders): Tags | undefined {
  if (header === undefined) return undefined
  if (header.trim() === '*') return 'any'
  const elements = splitList(header)
  if (elements === undefined || elements.length === 0)
    throw invalid(
      'if-match',
      `If-Match must be an ETag in double quotes, a list of them, or *. It is ${quoted(header)}.`,
    )
  return elements.flatMap(({ isWeak, tag }) => (isWeak ? [] : [tag]))
}

/** @returns undefined if the text is not a list of ETags */
function splitList(header: string): { isWeak: boolean; tag: string }[] | undefined {
  const elements: { isWeak: boolean; tag: string }[] = []
  for (ELEMENT.lastIndex = 0; ELEMENT.lastIndex < header.length; ) {
    const found = ELEMENT.exec(header)
    if (found === null) return undefined
    const [, weak, tag] = found
    if (tag !== undefined) elements.push({ isWeak: weak !== undefined, tag })
  }
  return elements
}

function invalid(pointer: string, detail: string): Problem {
  return new Problem('invalid_header', detail, { errors: [{ pointer, code: 'invalid_header', detail }] })
}

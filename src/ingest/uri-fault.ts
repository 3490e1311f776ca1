import { characterAt } from '../lib/quoted.ts'

/** A character that no URI-reference contains, or a `%` without two hexadecimal digits (RFC 3986, appendix A). */
const FORBIDDEN = /[^\w.~!$&'()*+,;=:@/?#[\]%-]|%(?![\da-fA-F]{2})/u

const SCHEME = /^[a-z][a-z0-9+.-]*$/i

/** What is wrong with a text that is not a URI-reference, and what to write instead, as a sentence; undefined if it is not clear. */
export function uriFault(text: string): string | undefined {
  const forbidden = FORBIDDEN.exec(text)
  if (forbidden !== null) return encodeAt(text, forbidden.index, forbidden[0])
  const [, beforeColon] = /^([^/?#]*?):/.exec(text) ?? []
  if (beforeColon !== undefined && !SCHEME.test(beforeColon))
    return 'The text before its first ":" counts as the scheme of a URI, which begins with a letter and has only letters, digits, "+", "-" and ".". If it is no scheme, write %3A for ":".'
  const bracket = text.search(/[[\]]/)
  if (bracket !== -1) return encodeAt(text, bracket, text.charAt(bracket))
  const second = text.indexOf('#', text.indexOf('#') + 1)
  return second > 0 ? encodeAt(text, second, '#') : undefined
}

function encodeAt(text: string, index: number, character: string): string {
  const place = characterAt(text, index)
  return character.isWellFormed() ? `${place}: write it as ${encodeURIComponent(character)}.` : `${place}.`
}

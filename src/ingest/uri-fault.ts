import { characterName } from '../lib/quoted.ts'

/** A character that no URI-reference contains, or a `%` without two hexadecimal digits (RFC 3986, appendix A). */
const FORBIDDEN = /[^\w.~!$&'()*+,;=:@/?#[\]%-]|%(?![\da-f]{2})/iu

const SCHEME = /^[a-z][a-z0-9+.-]*$/i

/** What is wrong with a text that is not a URI-reference, and what to write instead, as a sentence; undefined if it is not clear. */
export function uriFault(text: string): string | undefined {
  const [found] = FORBIDDEN.exec(text) ?? []
  if (found !== undefined) return at(text, text.search(FORBIDDEN), found)
  const [, beforeColon] = /^([^/?#]*?):/.exec(text) ?? []
  if (beforeColon !== undefined && !SCHEME.test(beforeColon))
    return 'What is before the first ":" must be a scheme: a letter, and then letters, digits, "+", "-" or ".". Otherwise write ./ before it, or %3A for ":".'
  const bracket = text.search(/[[\]]/)
  if (bracket !== -1) return at(text, bracket, text.charAt(bracket))
  const second = text.indexOf('#', text.indexOf('#') + 1)
  return second > 0 ? at(text, second, '#') : undefined
}

function at(text: string, index: number, character: string): string {
  const place = `Character ${Array.from(text.slice(0, index)).length + 1} is ${characterName(character)}`
  return character.isWellFormed() ? `${place}: write it as ${encodeURIComponent(character)}.` : `${place}.`
}

import { parse } from 'content-type'

/** CloudEvents JSON format 1.0.2, section 3.1: the data of an event without datacontenttype is JSON. */
const DEFAULT = 'application/json'

/**
 * Whether two media types mean the same (RFC 9110, section 8.3.1): letter case, white space, quotes and the order of parameters do
 * not matter. `charset=utf-8` does not matter either: text is UTF-8 here, and some SDKs name it only in one of their modes.
 * @param one null: an event without datacontenttype
 */
export function isSameMediaType(one: string | null, other: string | null): boolean {
  return one === other || normalForm(one ?? DEFAULT) === normalForm(other ?? DEFAULT)
}

function normalForm(text: string): string {
  const { type, parameters } = parse(text)
  const { charset = 'utf-8', ...others } = parameters
  const encoding = charset.toLowerCase().replace(/^utf8$/, 'utf-8')
  return JSON.stringify([type, encoding, Object.entries(others).sort(([a], [b]) => (a < b ? -1 : 1))])
}

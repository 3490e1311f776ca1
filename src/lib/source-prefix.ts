/** As long as a source may be (db/migrations/0001_records.sql). */
const MAX_BYTES = 512

/** At one of these a name ends and what belongs to it begins: `shop/till`, `urn:shop:till`, `shop.till`. */
const BOUNDARIES = ['/', ':', '.']

/** A prefix that ends amid the host of a URL (RFC 3986, section 3.2). */
const HOST = /^(?:[a-z][a-z0-9+.-]*:)?\/\/[^/?#]*$/i

/**
 * `.` or `..` as a segment of the path, also percent-encoded: a program that resolves such a source (RFC 3986, section 5.2.4) ends
 * outside of the prefix. URL parsers read `\` as `/`, drop spaces and control characters at the ends, and tabs and line breaks
 * anywhere (WHATWG URL, section 4.4): the former end a segment as well, and one of the latter is as bad as a segment of dots.
 * The text is the same to JavaScript and to PostgreSQL; letters match in either case.
 */
export const DOT_SEGMENT = String.raw`[\t\n\r]|(^|[/\\?#\u0001-\u0020]|%2f|%5c)(\.|%2e){1,2}($|[/\\?#\u0001-\u0020]|%2f|%5c)`

const dotSegment = new RegExp(DOT_SEGMENT, 'i')

/**
 * The sources that a prefix of an API key stands for: one that is `equal`, and those that start with one of `starts`.
 *
 * | prefix | stands for |
 * | --- | --- |
 * | `shop` | `shop`, and what continues it with `/`, `:` or `.`; not `shopping` |
 * | `shop/`, `shop:`, `shop.` | what starts so |
 * | `shop*` | what starts with `shop` |
 * | `https://shop.example` | itself, and what continues it with `/`: after a host, `.` and `:` can lead to another host |
 */
export function readPrefix(prefix: string): { equal: string | undefined; starts: string[] } {
  if (prefix.endsWith('*')) return { equal: undefined, starts: [prefix.slice(0, -1)] }
  if (BOUNDARIES.some((boundary) => prefix.endsWith(boundary))) return { equal: undefined, starts: [prefix] }
  const boundaries = HOST.test(prefix) ? ['/'] : BOUNDARIES
  return { equal: prefix, starts: boundaries.map((boundary) => prefix + boundary) }
}

/** May a key with these prefixes use this source? One without prefixes may use any. data/allowed-sources.ts is the same in SQL. */
export function admits(prefixes: readonly string[], source: string): boolean {
  if (prefixes.length === 0) return true
  return (
    !hasDotSegment(source) &&
    prefixes.some((prefix) => {
      const { equal, starts } = readPrefix(prefix)
      return source === equal || starts.some((start) => source.startsWith(start))
    })
  )
}

export const hasDotSegment = (source: string): boolean => dotSegment.test(source)

/** Why a new key cannot have this prefix, as the rest of a sentence; undefined when it can. */
export function prefixFault(prefix: string): string | undefined {
  if (prefix === '' || prefix === '*') return 'stands for every source; leave it out for a key for every source'
  if (prefix.slice(0, -1).includes('*')) return 'has a * before its end; only the last character can be one'
  if (Buffer.byteLength(prefix.replace(/\*$/, '')) > MAX_BYTES)
    return `is longer than ${MAX_BYTES} bytes, and so than any source`
  const isWide = prefix.endsWith('*')
  if (hasDotSegment(isWide ? prefix.replace('*', 'a') : prefix))
    return 'has a segment . or .., a tab or a line break; no key with prefixes may use such a source'
  return undefined
}

/** Maximum size of a source (db/migrations/0001_records.sql). */
export const MAX_PREFIX_BYTES = 512

/** Characters that separate the parts of a name: `shop/till`, `urn:shop:till`, `shop.till`. */
const BOUNDARIES = ['/', ':', '.']

/** A prefix that ends within the host of a URL (RFC 3986, section 3.2). */
const HOST = /^(?:[a-z][a-z0-9+.-]*:)?\/\/[^/?#]*$/i

/**
 * `.` or `..` as a segment of the path, percent-encoded or not: a program that resolves such a source (RFC 3986, section 5.2.4)
 * leaves the prefix. URL parsers read `\` as `/`, drop spaces and control characters at the ends, and drop tabs and line breaks
 * anywhere (WHATWG URL, section 4.4). So `\`, spaces and control characters end a segment as well, and a tab or a line break counts
 * as a dot segment. The pattern means the same in JavaScript and in PostgreSQL; it ignores case.
 */
export const DOT_SEGMENT = String.raw`[\t\n\r]|(^|[/\\?#\u0001-\u0020]|%2f|%5c)(\.|%2e){1,2}($|[/\\?#\u0001-\u0020]|%2f|%5c)`

const dotSegment = new RegExp(DOT_SEGMENT, 'i')

/**
 * The sources that a prefix of an API key allows: the source `equal`, and all that start with one of `starts`.
 *
 * | prefix | allows |
 * | --- | --- |
 * | `shop` | `shop`, and sources that continue it with `/`, `:` or `.`; not `shopping` |
 * | `shop/`, `shop:`, `shop.` | sources that start with the prefix |
 * | `shop*` | sources that start with `shop` |
 * | `https://shop.example` | itself, and sources that continue it with `/`; `.` and `:` after a host can lead to another host |
 */
export function readPrefix(prefix: string): { equal: string | undefined; starts: string[] } {
  if (prefix.endsWith('*')) return { equal: undefined, starts: [prefix.slice(0, -1)] }
  if (BOUNDARIES.some((boundary) => prefix.endsWith(boundary))) return { equal: undefined, starts: [prefix] }
  const boundaries = HOST.test(prefix) ? ['/'] : BOUNDARIES
  return { equal: prefix, starts: boundaries.map((boundary) => prefix + boundary) }
}

/** Whether a key with these prefixes may use this source. A key without prefixes may use any source. data/allowed-sources.ts does the same in SQL. */
export const admits = (prefixes: readonly string[], source: string): boolean =>
  prefixes.length === 0 || compilePrefixes(prefixes)(source)

/** The same for many sources. @param prefixes at least one */
export function compilePrefixes(prefixes: readonly string[]): (source: string) => boolean {
  const compiled = prefixes.map(readPrefix)
  return (source) =>
    !hasDotSegment(source) &&
    compiled.some(({ equal, starts }) => source === equal || starts.some((start) => source.startsWith(start)))
}

export const hasDotSegment = (source: string): boolean => dotSegment.test(source)

/** Why a new key cannot have this prefix, as the rest of a sentence; undefined if it can. */
export function prefixFault(prefix: string): string | undefined {
  if (prefix === '' || prefix === '*') return 'allows every source; omit it to create a key for every source'
  if (prefix.slice(0, -1).includes('*')) return 'has a * before its end; only the last character can be *'
  if (Buffer.byteLength(prefix.replace(/\*$/, '')) > MAX_PREFIX_BYTES)
    return `is longer than ${MAX_PREFIX_BYTES} bytes, the limit for a source`
  if (prefix.includes('\0') || !prefix.isWellFormed())
    return 'contains U+0000 or a lone surrogate, which PostgreSQL cannot store'
  const isWide = prefix.endsWith('*')
  if (hasDotSegment(isWide ? prefix.replace('*', 'a') : prefix))
    return 'has a . or .. segment, a tab or a line break; a key with prefixes cannot use such a source'
  return undefined
}

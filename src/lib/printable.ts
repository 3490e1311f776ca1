/** Control characters, what changes the direction of text, and separators of lines. A joiner (U+200D) is part of some words. */
const UNPRINTABLE = /[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]/gu

const SHORT: Record<string, string> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }

/**
 * Escapes what a terminal would interpret instead of showing it, as in JSON. Texts from files, servers and databases are printed with this:
 * a name such as `\u001b[2J` would clear the screen.
 */
export function printable(text: string): string {
  return text.replaceAll(UNPRINTABLE, (one) => SHORT[one] ?? `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/** A text in quotes, as in JSON, to be part of a sentence. */
export const quoted = (text: string): string => printable(JSON.stringify(text))

/** The part of a text before the first separator; the whole text without one. */
export function before(text: string, separator: string): string {
  const end = text.indexOf(separator)
  return end === -1 ? text : text.slice(0, end)
}

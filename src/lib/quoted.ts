/** In characters. */
const MAX_LENGTH = 60

/** A text of others for a message: in quotes, truncated, and with nothing that a terminal would interpret, hide or show as a space. */
export function quoted(text: string): string {
  const start = text.length > MAX_LENGTH ? `${text.slice(0, MAX_LENGTH - 1)}…` : text
  return JSON.stringify(start).replaceAll(/(?! )[\p{C}\p{Z}]/gu, asEscape)
}

const asEscape = (character: string) =>
  Array.from({ length: character.length }, (_, at) => unit(character, at)).join('')

const unit = (text: string, at: number) => `\\u${text.charCodeAt(at).toString(16).padStart(4, '0')}`

/** The name of a character for a message: itself in quotes if it can be seen, and its number. */
export function characterName(character: string): string {
  const known = NAMES[character]
  if (known !== undefined) return known
  const number = `U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}`
  return /^[\p{C}\p{Z}]$/u.test(character) ? number : `${character === '"' ? "'\"'" : `"${character}"`} (${number})`
}

/** The beginning of a sentence about the character at an index: `Character 5 is "ü" (U+00FC)`. */
export function characterAt(text: string, index: number): string {
  let number = 1
  for (let at = 0; at < index; at += codePoint(text, at) > 0xffff ? 2 : 1) number++
  return `Character ${number} is ${characterName(String.fromCodePoint(codePoint(text, index)))}`
}

const codePoint = (text: string, at: number) => text.codePointAt(at) ?? 0

const NAMES: Record<string, string> = {
  ' ': 'a space',
  '\t': 'a tab',
  '\n': 'a line break',
  '\r': 'a carriage return (U+000D)',
}

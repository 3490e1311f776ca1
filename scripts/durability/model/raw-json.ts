// JSON.parse rounds numbers and loses the spelling of a value. These functions split valid JSON into the texts of its parts. They
// share no code with Sluice, whose own parser is under test.

/** The members of an object: decoded names, and values as text. */
export function membersOf(object: string): Map<string, string> {
  const members = partsOf(object).map((part) => {
    const end = endOfString(part, 0)
    const name: string = JSON.parse(part.slice(0, end))
    return [name, part.slice(part.indexOf(':', end) + 1).trim()] as const
  })
  return new Map(members)
}

/** The elements of an array, as text. */
export const elementsOf = (array: string): string[] => partsOf(array)

/** The texts between the commas of an object or an array. */
function partsOf(text: string): string[] {
  const inside = text.trim().slice(1, -1)
  const parts: string[] = []
  let [depth, from] = [0, 0]
  for (let at = 0; at < inside.length; at++) {
    const character = inside[at]
    if (character === '"') at = endOfString(inside, at) - 1
    else if (character === '{' || character === '[') depth++
    else if (character === '}' || character === ']') depth--
    else if (character === ',' && depth === 0) {
      parts.push(inside.slice(from, at).trim())
      from = at + 1
    }
  }
  const last = inside.slice(from).trim()
  return last === '' ? parts : [...parts, last]
}

/** @returns the index after the closing quote of the string that begins at `at` @throws SyntaxError if the quote is missing */
function endOfString(text: string, at: number): number {
  let end = text.indexOf('"', at + 1)
  for (; ; end = text.indexOf('"', end + 1)) {
    if (end === -1) throw new SyntaxError('a string has no closing quote')
    let backslashes = 0
    while (text[end - 1 - backslashes] === '\\') backslashes++
    if (backslashes % 2 === 0) return end + 1
  }
}

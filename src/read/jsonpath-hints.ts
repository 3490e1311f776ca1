import type { JsonpathText } from './jsonpath-text.ts'

export const LITERAL = 'a number, a text in double quotes, true, false or null'
const OPERATORS = '==, !=, <, <=, >, >=, starts with and like_regex'

/** What people write in other languages, and what to write instead. */
const HABITS: [written: RegExp, instead: string][] = [
  [/^=/, 'write == to compare'],
  [/^(?:&|and\b)/i, 'write && for and'],
  [/^(?:\||or\b)/i, 'write || for or'],
  [/^not\b/i, 'write ! for not, as in !($.a == 1)'],
  [/^is\s+(?:not\s+)?null\b/i, 'write == null or != null'],
  [/^(?:~|like\b|ilike\b|contains\b)/i, 'write like_regex "pattern" or starts with "text"'],
  [/^in\b/i, 'write like_regex "^(x|y)$"'],
  [/^'/, 'write text in double quotes'],
  [
    /^[-+*/%]/,
    'arithmetic is not possible. A name with such a character is written in double quotes, as in $."e-mail"',
  ],
]

const habit = (text: JsonpathText) => HABITS.find(([written]) => written.test(text.rest()))?.[1]

/** What to write instead of what is no operator. */
export const notOperator = (text: JsonpathText): string =>
  habit(text) ?? `this is not expected here. The comparisons are ${OPERATORS}`

/** What to write instead of what is no literal. */
export function notLiteral(text: JsonpathText): string {
  const rest = text.rest()
  if (/^[$@]/.test(rest))
    return `two members cannot be compared with each other: PostgreSQL would compare each value of one with each value of the other. Compare with ${LITERAL}`
  if (/^[[{]/.test(rest))
    return 'objects and arrays cannot be compared. The parameter data selects records that contain them'
  return habit(text) ?? `write ${LITERAL}`
}

/** What to write instead of what is no path. */
export function noStart(text: JsonpathText, inFilter: boolean): string {
  const [begin, word] = [inFilter ? '@' : '$', /^[\p{L}\p{N}_]+/u.exec(text.rest())?.[0]]
  if (text.isAtEnd()) return 'something is missing here'
  if (text.sees("'")) return 'write text in double quotes'
  if (text.sees('(')) return 'parentheses are for conditions only'
  if (text.sees('$')) return 'in a filter, a path begins with @, the item that is looked at, and $ is not possible'
  if (text.sees('@')) return 'a path begins with $, the data; @ is only possible in a filter'
  return (word === 'not' && habit(text)) || `write a path, such as ${begin}.${word ?? 'name'}`
}

import { quoted } from '../lib/quoted.ts'
import type { JsonpathText } from './jsonpath-text.ts'

export const LITERAL = 'a number, a text in double quotes, true, false or null'
const OPERATORS = '==, !=, <, <=, >, >=, starts with and like_regex'

type Habits = [written: RegExp, instead: string][]

/** What people write in other languages, and what to write instead. */
const HABITS: Habits = [
  [/^(?:=[<>]|[\u2260\u2264\u2265])/, 'write >=, <= or !='],
  [/^(?:=?~|like\b|ilike\b|contains\b|matches\b)/i, 'write like_regex "pattern" or starts with "text"'],
  [/^(?:starts|begins)_?with\b/i, 'write starts with "text"'],
  [/^=(?!=)/, 'write == to compare'],
  [/^(?:&|and\b)/i, 'write && for and'],
  [/^(?:\||or\b)/i, 'write || for or'],
  [/^not\b/i, 'write ! for not, as in !($.a == 1)'],
  [/^is\s+(?:not\s+)?null\b/i, 'write == null or != null'],
  [/^is\s+(?:not\s+)?(?:true|false)\b/i, 'write == true or != true'],
  [/^exists\b/i, 'write exists($.a)'],
  [/^in\b/i, 'write $.a == 1 || $.a == 2, or for texts like_regex "^(x|y)$"'],
  [/^between\b/i, 'join two comparisons with &&, as in $.a >= 100 && $.a <= 200'],
  [/^[<>!=]=?/, 'this is a second comparison. Join two with &&, as in $.a > 100 && $.a < 200'],
  [/^(?:eq|ne|gt|ge|lt|le)\b/i, 'write ==, !=, >, >=, < or <='],
  [/^[-/.]\d\d?[-/.]\d|^:\d\d/, 'put a date or a time in double quotes, as in "2026-01-31"'],
  [/^,\d/, 'write a number with a decimal point and without other separators'],
  [/^::/, 'casts are not possible. A number that is stored as text is $.a.number()'],
  [/^->/, 'write a member as $.name'],
  [
    /^[-+*/%]/,
    'arithmetic is not possible. A name with such a character is written in double quotes, as in $."e-mail"',
  ],
]

/** What is wrong at any place, such as text that was encoded once too often. */
const ANYWHERE: Habits = [
  [/^%[\da-f]{2}/i, 'it is percent-encoded twice. Encode it once'],
  [/^&(?:[a-z]+|#\w+);/i, 'it is encoded for HTML. Write >, <, & and " as they are'],
  [/^[\p{Z}\p{Cf}]/u, 'this is an invisible character or an unusual space. Remove it, or write a plain space'],
  [/^['`\u2018-\u201f\u00ab\u00bb]/, 'write text in straight double quotes: "text"'],
]

const find = (habits: Habits, text: JsonpathText) => habits.find(([written]) => written.test(text.rest()))?.[1]
const habit = (text: JsonpathText) => find(ANYWHERE, text) ?? find(HABITS, text)

/** What to write instead of what is no operator. */
export function notOperator(text: JsonpathText): string {
  if (!text.isAtEnd()) return habit(text) ?? `this is not expected here. The comparisons are ${OPERATORS}`
  return /^"\s*[$@]/.test(text.since(0))
    ? 'remove the quotes around it'
    : `a comparison is missing. The comparisons are ${OPERATORS}`
}

/** What to write instead of what is no literal. */
export function notLiteral(text: JsonpathText): string {
  const rest = text.rest()
  if (/^[$@]/.test(rest))
    return `two members cannot be compared with each other: PostgreSQL would compare each value of one with each value of the other. Compare with ${LITERAL}`
  if (/^[[{]/.test(rest))
    return 'objects and arrays cannot be compared. The parameter data selects records that contain them'
  const word = /^(?:true|false|null)\b/i.exec(rest)?.[0]
  if (word !== undefined) return `write ${word.toLowerCase()} in lower case`
  if (/^(?:none|nil|undefined)\b/i.test(rest)) return 'write null'
  if (/^\d+[-/.:]\d+[-/.:T]/.test(rest)) return 'put a date or a time in double quotes, as in "2026-01-31"'
  return habit(text) ?? `write ${LITERAL}`
}

/** What to write instead of what is no path. */
export function noStart(text: JsonpathText, inFilter: boolean): string {
  const rest = text.rest()
  const begin = inFilter ? '@' : '$'
  if (text.isAtEnd()) return 'something is missing here'
  if (/^['`\u2018-\u201f]\s*[$@]/.test(rest)) return 'remove the quotes around it'
  if (/^jsonpath\s*=/.test(rest)) return 'remove jsonpath= at its beginning'
  if (/^[<>=!]/.test(rest)) return `write the path again, as in ${begin}.a > 10 && ${begin}.a < 20`
  if (text.sees('(')) return 'parentheses are for conditions only'
  if (text.sees('$')) return 'in a filter, a path begins with @, the item that is looked at, and $ is not possible'
  if (text.sees('@')) return 'a path begins with $, the data; @ is only possible in a filter'
  const [, data, word] = /^(data(?![\p{L}\p{N}_])\s*)?\.?\s*([\p{L}_][\p{L}\p{N}_]*)?/u.exec(rest) ?? []
  if (data !== undefined && !inFilter) return `$ is the data: write $${word === undefined ? '' : `.${word}`}`
  return (
    (word === undefined && find(ANYWHERE, text)) ||
    (word?.toLowerCase() === 'not' && habit(text)) ||
    `write a path, such as ${begin}.${word ?? 'name'}`
  )
}

/** What to write instead of what is no name, after a dot. */
export function noName(text: JsonpathText): string {
  const rest = text.rest()
  const [, below] = /^\.\s*([\p{L}_][\p{L}\p{N}_]*)/u.exec(rest) ?? []
  if (below !== undefined) return `write .**.${below} for a member at any depth`
  const [position] = /^\d+(?![\p{L}\p{N}_])/u.exec(rest) ?? []
  if (position !== undefined) return `write [${position}] for a position, without the dot`
  if (text.sees('[')) return 'remove the dot before the bracket'
  return (
    memberIn(rest) ??
    find(ANYWHERE, text) ??
    'write a name, or *. A name with other characters is written in double quotes: $."e-mail"'
  )
}

/** What to write instead of what is no position, in brackets. */
export function noIndex(text: JsonpathText): string {
  const rest = text.rest()
  if (text.sees('?')) return 'write a filter after the brackets and in parentheses: [*] ? (@.price > 10)'
  if (text.sees(']')) return 'write [*] for all items'
  if (text.sees('-')) return 'write [last] for the last item. Other positions from the end are not possible'
  return memberIn(rest) ?? 'write [0] or another position, [last] or [*]'
}

/** A member in quotes, as other languages write it. */
function memberIn(rest: string): string | undefined {
  const [, name] = /^["'\u2018-\u201f](.+?)["'\u2018-\u201f]/.exec(rest) ?? []
  return name === undefined ? undefined : `write a member as .${quoted(name)}`
}

/** What to write instead of what follows the path of exists. */
export function notExists(text: JsonpathText, inFilter: boolean): string {
  if (!/^(?:[<>=!]|starts\b|like_regex\b|is\b)/.test(text.rest())) return 'a ) is missing after the path'
  const filter = inFilter ? '' : ', or write it as a filter: exists($.a ? (@ == 1))'
  return `exists has a path alone. Leave exists out${filter}`
}

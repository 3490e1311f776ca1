import { characterName } from '../quoted.ts'

/** How much text around the fault is looked at, in characters. */
const NEAR = 40

const WORDS: Record<string, string> = {
  nan: 'JSON has no NaN: use null, or leave the member out',
  inf: 'JSON has no infinity: use null, or a string',
  infinity: 'JSON has no infinity: use null, or a string',
  undefined: 'JSON has no undefined: use null, or leave the member out',
  none: 'None is Python: in JSON, it is null (json.dumps writes it)',
  true: 'In JSON, it is true, in lower case',
  false: 'In JSON, it is false, in lower case',
  null: 'In JSON, it is null, in lower case',
}

/**
 * What is probably wrong where a text stops being JSON, as a sentence; undefined if it is not clear. It repeats nothing of the text
 * but the one character, because the text may be a payload.
 * @param index of the first character that is not valid
 * @param quotes what to do if quotes are missing or wrong, as a sentence without a full stop
 */
export function syntaxHint(text: string, index: number, quotes: string | undefined): string | undefined {
  const more = quotes === undefined ? '' : `. ${quotes}`
  const before = text.slice(Math.max(0, index - NEAR), index)
  const after = text.slice(index, index + NEAR)
  const character = String.fromCodePoint(text.codePointAt(index) ?? 0)
  const previous = before.trimEnd().at(-1)
  const word = `${/[A-Za-z]*$/.exec(before)?.[0]}${/^[A-Za-z]*/.exec(after)?.[0]}`.toLowerCase()

  if (before.endsWith('\\')) return 'JSON has no such escape sequence: write a backslash as \\\\'
  if (character === '\\') return 'A quote outside of a string needs no backslash before it'
  if (after.startsWith('object Object')) return 'A JavaScript object was turned into text: use JSON.stringify'
  if (Object.hasOwn(WORDS, word)) return WORDS[word]
  if (/^[}\]]/.test(after) && previous === ',') return 'Remove the comma before it'
  if (after.startsWith("'")) return `JSON has double quotes, not single ones${more}`
  if (/^[\u2018-\u201f\u00ab\u00bb]/.test(after)) return `${characterName(character)} is not a quote in JSON: write "`
  if (/^(?:\/[/*]|#)/.test(after)) return 'JSON has no comments: remove it'
  if ((previous === '{' || previous === ',') && /^[\w$.-]+\s*:/.test(after)) return `A name needs double quotes${more}`
  if (previous === ':' && /^[A-Za-z]/.test(after)) return `Text needs double quotes${more}`
  if (/^[,}\]]/.test(after) && previous === ':') return 'The value is missing: without one, write null'
  if (character === ';') return 'Members are separated by a comma'
  if (character === '=') return 'A name and its value are separated by a colon'
  if (/^[xob]/i.test(after) && previous === '0') return 'Write the number in decimal, or in double quotes'
  if (/^\d/.test(after) && /(?:^|[^\d.eE])-?0$/.test(before))
    return 'A number has no leading zeros: remove them, or write it in double quotes'
  if (/^\+?\.?\d/.test(after) && /^[+.]/.test(after))
    return 'A number begins with a digit or a minus: write 0.5, not .5 or +0.5'
  if (previous === '.') return 'A digit must follow the point'
  if (character === '\n' || character === '\r') return 'A line break in a string is written as \\n'
  if (character === '\t') return 'A tab in a string is written as \\t'
  if (character === '\0') return 'It is U+0000. If every second byte is zero, the text is UTF-16: convert it to UTF-8'
  if (character < ' ')
    return `It is ${characterName(character)}, a control character: in a string, it is written as \\u00xx`
  if (/^[\p{Z}\u200b\ufeff]/u.test(character))
    return `It is ${characterName(character)}, which is not white space in JSON: remove it`
  if (previous !== undefined && /["}\]\w]/.test(previous) && /^["{[\w-]/.test(after))
    return 'A comma or a colon is missing before it, or a quote within a string needs a backslash'
  return undefined
}

/** In characters. */
export const MAX_PATTERN = 256
/** How many characters the pattern describes, with its repetitions. PostgreSQL's time to compile grows with the cube of it. */
export const MAX_PATTERN_SIZE = 256
/** What a position such as ^ costs, compared with a character. Many of them in one repetition would take minutes to compile. */
const POSITION = 32

const ESCAPE = /\\./gs
/** An escape, a bracket expression, a number of repetitions, or a character. */
const TOKEN = /\\.|\[\^?\]?(?:\[[:.=][^\]]*\]|\[(?![:.=])|\\.|[^\]\\[])*\]|\{(\d+)(?:(,)(\d*))?\}|./gsu

/**
 * Checks a pattern of like_regex (PostgreSQL's "advanced regular expression"). Without back-references and lookaround, the time to
 * search a text is proportional to its length.
 * @returns what is wrong with it
 */
export function checkPattern(pattern: string): string | undefined {
  if (pattern.length > MAX_PATTERN) return `a pattern may have ${MAX_PATTERN} characters`
  // It would select another syntax.
  if (pattern.startsWith('***')) return 'a pattern cannot begin with ***'
  const [plain, escapes] = [pattern.replaceAll(ESCAPE, ''), pattern.match(ESCAPE) ?? []]
  if (/\(\?(?!:)/.test(plain)) return 'a pattern cannot have (?, except (?:…)'
  // It would take the next character with it, even an opening bracket.
  if (escapes.some((one) => one === '\\c')) return 'a pattern cannot have \\c. Write a control character as \\x07'
  if (escapes.some((one) => /[1-9]/.test(one))) return 'a pattern cannot have back-references, such as \\1'
  // The size of each open group, then of what is outside, and of the last thing in it, to which a repetition applies.
  const sizes = [0]
  let last = 0
  const add = (size: number) => {
    sizes[0] = (sizes[0] as number) + size
    last = size
  }
  for (const { 0: token, 1: from, 2: comma, 3: until } of pattern.matchAll(TOKEN)) {
    if (token === '(') sizes.unshift(0)
    else if (token === ')' && sizes.length > 1) add(sizes.shift() as number)
    else if (from !== undefined) {
      const times = Math.max(1, Number(comma === undefined || until === '' ? from : until))
      add(last * (times - 1))
    } else add(/^\\[yYmMAZ]$|^[$^]$|\[:[<>]:\]/.test(token) ? POSITION : 1)
  }
  const size = sizes.reduce((sum, one) => sum + one, 0)
  if (size > MAX_PATTERN_SIZE)
    return `this pattern describes ${size.toLocaleString('en')} characters with its repetitions, and may describe ${MAX_PATTERN_SIZE}. Use * or + instead of {…}`
  return undefined
}

/**
 * Texts of JSON, without JSON.parse: it would change 12.50 to 12.5 and 1e400 to Infinity, and drop repeated names. The text must be
 * valid JSON, as every response is.
 */
const TOKEN = /[{}[\],:"]|[^\s{}[\],:"]+/g

/**
 * The tokens of a JSON text. A regular expression for strings would overflow its stack: they may have megabytes.
 * @param {string} text
 * @returns {Generator<{ token: string, index: number }>}
 */
function* tokensOf(text) {
  const pattern = new RegExp(TOKEN)
  for (let match = pattern.exec(text); match !== null; match = pattern.exec(text)) {
    const { 0: token, index } = match
    if (token === '"') pattern.lastIndex = endOfString(text, index)
    yield { token: text.slice(index, pattern.lastIndex), index }
  }
}

/** @param {string} text @param {number} begin of the string @returns the index after it */
function endOfString(text, begin) {
  for (let end = text.indexOf('"', begin + 1); end !== -1; end = text.indexOf('"', end + 1)) {
    let backslashes = 0
    while (text[end - 1 - backslashes] === '\\') backslashes++
    if (backslashes % 2 === 0) return end + 1
  }
  return text.length
}

/**
 * The members of an object.
 * @param {string} text
 * @returns {Map<string, string>} the text of each value by name
 */
export function members(text) {
  const found = new Map()
  let [depth, name, begin] = [0, '', 0]
  for (const { token, index } of tokensOf(text)) {
    if (depth === 1 && (token === ',' || token === '}') && name !== '') {
      found.set(JSON.parse(name), text.slice(begin, index).trim())
      name = ''
    } else if (depth === 1 && name === '' && token.startsWith('"')) {
      name = token
    } else if (depth === 1 && token === ':') {
      begin = index + 1
    }
    if (token === '{' || token === '[') depth++
    if (token === '}' || token === ']') depth--
  }
  return found
}

/**
 * The elements of an array.
 * @param {string} text
 * @returns {string[]} the text of each
 */
export function elements(text) {
  const found = []
  let [depth, begin] = [0, text.indexOf('[') + 1]
  for (const { token, index } of tokensOf(text)) {
    if (token === '{' || token === '[') depth++
    if (token === '}' || token === ']') depth--
    const isEnd = (token === ',' && depth === 1) || (token === ']' && depth === 0)
    if (!isEnd) continue
    found.push(text.slice(begin, index).trim())
    begin = index + 1
  }
  return found.filter((element) => element !== '')
}

/** In levels. Deeper values are not indented further: the text would grow with the square of the depth. */
const MAX_INDENT = 40
/** In characters. A browser takes seconds to lay out more. */
const MAX_LENGTH = 500_000

/**
 * The same JSON with line breaks and indentation.
 * @param {string} text
 * @returns {{ shown: string, isCut: boolean }} at most the beginning
 */
export function pretty(text) {
  const out = []
  let depth = 0
  let length = 0
  let before = ''
  const newLine = () => out.push(`\n${'  '.repeat(Math.min(depth, MAX_INDENT))}`)
  for (const { token } of tokensOf(text)) {
    if (token === '}' || token === ']') {
      depth--
      if (before !== '{' && before !== '[') newLine()
    } else if (before === '{' || before === '[' || before === ',') newLine()
    out.push(token === ':' ? ': ' : token)
    if (token === '{' || token === '[') depth++
    before = token
    length += token.length + 2 * Math.min(depth, MAX_INDENT)
    if (length > MAX_LENGTH) return { shown: out.join('').slice(0, MAX_LENGTH), isCut: true }
  }
  return { shown: out.join(''), isCut: false }
}

import { quoted } from '../lib/quoted.ts'
import { refuseParameter } from './refuse-parameter.ts'

const SPACE = /[ \t\n\r\f]*/y
const STRING = /"(?:[^"\\]|\\.)*"/sy
const WORD_CHARACTER = /[\p{L}\p{N}_]/u

/** A jsonpath that is read from left to right. White space before what is read is skipped. */
export class JsonpathText {
  /** The index of the next character. */
  at = 0
  readonly #text: string

  constructor(text: string) {
    this.#text = text
    this.#skipSpace()
  }

  isAtEnd(): boolean {
    return this.at === this.#text.length
  }

  rest(): string {
    return this.#text.slice(this.at)
  }

  /** The text that was read since this index. */
  since(start: number): string {
    return this.#text.slice(start, this.at)
  }

  sees(token: string): boolean {
    return this.#text.startsWith(token, this.at)
  }

  /** Reads the token if it comes next. */
  take(token: string): boolean {
    if (!this.sees(token)) return false
    this.#advance(token.length)
    return true
  }

  /** Reads the word if it comes next and is not the beginning of a longer one. */
  takeWord(word: string): boolean {
    return !WORD_CHARACTER.test(this.#text.charAt(this.at + word.length)) && this.take(word)
  }

  /** Reads what a sticky expression matches. */
  match(expression: RegExp): boolean {
    return this.read(expression) !== undefined
  }

  /** Reads what a sticky expression matches, and returns it. */
  read(expression: RegExp): string | undefined {
    expression.lastIndex = this.at
    const found = expression.exec(this.#text)?.[0]
    if (found !== undefined) this.#advance(found.length)
    return found
  }

  /** Reads a string as in JSON, which PostgreSQL reads in the same way. @returns its value */
  string(): string | undefined {
    if (!this.sees('"')) return undefined
    const start = this.at
    const found = this.read(STRING)
    if (found === undefined) this.refuse('a double quote is missing at the end of this text', start)
    let value: string
    try {
      value = JSON.parse(found)
    } catch {
      return this.refuse('this text is not a JSON string: write a backslash as \\\\', start)
    }
    if (value.includes('\0') || !value.isWellFormed())
      this.refuse('no record can contain U+0000 or a lone surrogate', start)
    return value
  }

  expect(token: string, why: string): void {
    if (!this.take(token)) this.refuse(why)
  }

  /** @param why what is wrong and what to write instead. @throws Problem invalid_query */
  refuse(why: string, at = this.at): never {
    const rest = this.#text.slice(at)
    const where = rest === '' ? 'its end' : `character ${at + 1} (${quoted(rest)})`
    return refuseParameter('jsonpath', `is wrong at ${where}: ${why}`)
  }

  #advance(length: number): void {
    this.at += length
    this.#skipSpace()
  }

  #skipSpace(): void {
    SPACE.lastIndex = this.at
    this.at += SPACE.exec(this.#text)?.[0].length ?? 0
  }
}

import { nameAt, skipSpace } from './extent.ts'
import { checkNumber, checkString, pointerToken, type Unstorable } from './unstorable.ts'

/** A member of the outermost object, as indexes into the text. */
interface Member {
  nameStart: number
  valueStart: number
  valueEnd: number
  /** Nesting depth of its value. */
  depth: number
}

/** More than any record may have. */
export const MAX_MEMBERS = 1006
/** Far above MAX_DEPTH: a record that is too deep must not fail the other records of its batch. */
export const MAX_DEPTH_WALKED = 100_000

/** What the text may contain next. */
const VALUE = 0,
  FIRST_VALUE = 1,
  NAME = 2,
  FIRST_NAME = 3,
  COMMA = 4

const SPACE = 0x20,
  QUOTE = 0x22,
  COMMA_SIGN = 0x2c,
  MINUS = 0x2d,
  POINT = 0x2e,
  ZERO = 0x30,
  COLON = 0x3a,
  BACKSLASH = 0x5c
const OPEN_ARRAY = 0x5b,
  CLOSE_ARRAY = 0x5d,
  OPEN_OBJECT = 0x7b,
  CLOSE_OBJECT = 0x7d

/**
 * Checks one JSON value (RFC 8259) in a text without building the value. JSON.parse takes seconds for some texts of 16 MiB
 * and cannot be interrupted. This walk runs in steps and needs memory only for the open levels.
 */
export class JsonWalk {
  readonly #text: string
  readonly #maxMembers: number
  #at: number
  #due = VALUE
  /** For each open array, 2 × the index of the current element; for each open object, 2 × the index of its current name in the text + 1. */
  readonly #open: number[] = []
  #member: Member | undefined
  /** Start of the current string; -1 if there is none. */
  #stringStart = -1
  /** Whether the current string may contain something that PostgreSQL cannot store. */
  #isRisky = false
  #isDone = false
  readonly members: Member[] = []
  memberCount = 0
  /** Maximum number of levels that were open at the same time. */
  deepest = 0
  /** Index of the first character that is not valid JSON; the length of the text if it ends too early. */
  fault: number | undefined
  /** The first thing that PostgreSQL cannot store. */
  unstorable: Unstorable | undefined

  /**
   * @param at index where the value begins; white space may come before it
   * @param maxMembers further members of the outermost object are only counted
   */
  constructor(text: string, at: number, maxMembers = MAX_MEMBERS) {
    this.#text = text
    this.#at = at
    this.#maxMembers = maxMembers
  }

  /** Index after the value if the walk is done, otherwise the current index. */
  get end(): number {
    return this.#at
  }

  /** Continues for about `length` characters. @returns true at the end of the value or at a fault */
  run(length: number): boolean {
    const until = this.#at + length
    while (!this.#isDone && this.#at < until) this.#step(until)
    return this.#isDone
  }

  #step(until: number): void {
    if (this.#stringStart >= 0) return void this.#takeString(until)
    const at = skipSpace(this.#text, this.#at)
    const code = this.#text.charCodeAt(at)
    this.#at = at
    if (this.#due === COMMA) this.#takeComma(code)
    else if (this.#due === VALUE || (this.#due === FIRST_VALUE && code !== CLOSE_ARRAY)) this.#takeValue(code, until)
    else if (this.#due === FIRST_VALUE || (this.#due === FIRST_NAME && code === CLOSE_OBJECT)) this.#close()
    else if (code === QUOTE) this.#takeName(until)
    else this.#fail(at)
  }

  #takeComma(code: number): void {
    const top = this.#open.length - 1
    const isArray = (this.#open[top] as number) % 2 === 0
    if (code === (isArray ? CLOSE_ARRAY : CLOSE_OBJECT)) return void this.#close()
    if (code !== COMMA_SIGN) return void this.#fail(this.#at)
    if (isArray) (this.#open[top] as number) += 2
    this.#due = isArray ? VALUE : NAME
    this.#at++
  }

  #takeName(until: number): void {
    this.#open[this.#open.length - 1] = this.#at * 2 + 1
    this.#takeString(until)
  }

  #takeColon(nameStart: number): void {
    const colon = skipSpace(this.#text, this.#at)
    if (this.#text.charCodeAt(colon) !== COLON) return void this.#fail(colon)
    this.#at = colon + 1
    this.#due = VALUE
    if (this.#open.length > 1) return
    this.memberCount++
    this.#member = { nameStart, valueStart: skipSpace(this.#text, colon + 1), valueEnd: 0, depth: 0 }
  }

  #takeValue(code: number, until: number): void {
    if (code === OPEN_ARRAY || code === OPEN_OBJECT) return void this.#openBracket(code)
    if (code === QUOTE) return void this.#takeString(until)
    if (code === MINUS || isDigit(code)) this.#takeNumber()
    else {
      const start = this.#at
      const word = code === 0x74 ? 'true' : code === 0x66 ? 'false' : code === 0x6e ? 'null' : ''
      let same = 0
      while (same < word.length && this.#text.charCodeAt(start + same) === word.charCodeAt(same)) same++
      if (word === '' || same < word.length) return void this.#fail(start + same)
      this.#at = start + same
    }
    if (!this.#isDone) this.#endValue()
  }

  #openBracket(code: number): void {
    const depth = this.#open.push(code === OPEN_ARRAY ? 0 : 1)
    if (depth > this.deepest) this.deepest = depth
    if (this.#member !== undefined && depth - 1 > this.#member.depth) this.#member.depth = depth - 1
    this.#isDone = depth > MAX_DEPTH_WALKED
    this.#due = code === OPEN_ARRAY ? FIRST_VALUE : FIRST_NAME
    this.#at++
  }

  #close(): void {
    this.#open.pop()
    this.#at++
    this.#endValue()
  }

  #endValue(): void {
    this.#due = COMMA
    const depth = this.#open.length
    if (depth === 0) this.#isDone = true
    else if (depth === 1 && this.#member !== undefined) {
      this.#member.valueEnd = this.#at
      if (this.members.length < this.#maxMembers) this.members.push(this.#member)
      this.#member = undefined
    }
  }

  /** Takes a name or a value, or continues one that was begun. */
  #takeString(until: number): void {
    const text = this.#text
    if (this.#stringStart < 0) {
      this.#stringStart = this.#at++
      this.#isRisky = false
    }
    let at = this.#at
    for (; at < until; at++) {
      const code = text.charCodeAt(at)
      if (code === QUOTE) break
      if (code === BACKSLASH) {
        const escaped = text.charCodeAt(++at)
        if (escaped === 0x75) {
          const last = at + 4
          let unit = 0
          while (at < last && isHex(text.charCodeAt(at + 1))) unit = unit * 16 + hexValue(text.charCodeAt(++at))
          if (at < last) return void this.#fail(at + 1)
          if (unit === 0 || (unit >= 0xd800 && unit < 0xe000)) this.#isRisky = true
        } else if (!isEscape(escaped)) return void this.#fail(at)
      } else if (!(code >= SPACE)) return void this.#fail(at)
    }
    this.#at = at
    if (at >= until) return
    this.#at++
    this.#endString()
  }

  #endString(): void {
    const start = this.#stringStart
    this.#stringStart = -1
    if (this.#isRisky) this.unstorable ??= checkString(this.#text.slice(start, this.#at), () => this.#pointer())
    if (this.#due === NAME || this.#due === FIRST_NAME) this.#takeColon(start)
    else this.#endValue()
  }

  #takeNumber(): void {
    const text = this.#text
    const start = this.#at
    let at = text.charCodeAt(start) === MINUS ? start + 1 : start
    // No digit may follow a leading zero.
    at = text.charCodeAt(at) === ZERO ? at + 1 : this.#takeDigits(at)
    if (text.charCodeAt(at) === POINT) at = this.#takeDigits(at + 1)
    const hasExponent = text.charCodeAt(at) === 0x65 || text.charCodeAt(at) === 0x45
    if (hasExponent) {
      const sign = text.charCodeAt(at + 1)
      at = this.#takeDigits(sign === MINUS || sign === 0x2b ? at + 2 : at + 1)
    }
    if (this.#isDone) return
    this.#at = at
    // Other numbers are always within the range of PostgreSQL's numeric.
    if (hasExponent || at - start > 4096) this.unstorable ??= checkNumber(text.slice(start, at), () => this.#pointer())
  }

  /** Takes one or more digits. */
  #takeDigits(start: number): number {
    let at = start
    while (isDigit(this.#text.charCodeAt(at))) at++
    if (at === start) this.#fail(at)
    return at
  }

  /** JSON Pointer to the current value or name. */
  #pointer(): string {
    const token = (level: number) => (level % 2 === 0 ? level / 2 : pointerToken(nameAt(this.#text, (level - 1) / 2)))
    return this.#open.map((level) => `/${token(level)}`).join('')
  }

  /** Ends the walk. The first fault counts. */
  #fail(at: number): void {
    this.fault ??= Math.min(at, this.#text.length)
    this.#isDone = true
  }
}

const isDigit = (code: number) => code >= ZERO && code <= 0x39
const hexValue = (code: number) => (code & 0x0f) + (code > 0x39 ? 9 : 0)
/** One of "\/bfnrt */
const isEscape = (code: number) =>
  code === QUOTE ||
  code === BACKSLASH ||
  code === 0x2f ||
  code === 0x62 ||
  code === 0x66 ||
  code === 0x6e ||
  code === 0x72 ||
  code === 0x74
const isHex = (code: number) => isDigit(code) || (code >= 0x41 && code <= 0x46) || (code >= 0x61 && code <= 0x66)

import type { Jsonpath } from '../data/listing.ts'
import { LITERAL, notExists, notLiteral, notOperator } from './jsonpath-hints.ts'
import { readSteps, type StepRules } from './jsonpath-steps.ts'
import { JsonpathText } from './jsonpath-text.ts'
import { checkPattern } from './like-regex.ts'

/** In characters, so that everything below is small too. */
export const MAX_JSONPATH = 1024
/**
 * Each condition, each position in an array and each method takes PostgreSQL about 80 bytes for each item that it looks at, until the
 * record is done. `.**` looks at an item up to four times.
 */
export const MAX_CONDITIONS = 4
export const MAX_CONDITIONS_BELOW = 2

type Kind = Jsonpath['kind']

const COMPARISON = /==|!=|<>|<=|>=|<|>/y
const NUMBER = /[-+]?(?:(?:(?:0|[1-9]\d*)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?)(?![\p{L}\p{N}_.])/uy
const CONSTANT = /(?:true|false|null)(?![\p{L}\p{N}_])/uy
const FLAGS = /^[ismq]*$/

const FEWER = 'For one of several texts, write $.a like_regex "^(x|y)$"'

/**
 * Checks a jsonpath of PostgreSQL. Only a part of the language is accepted, in which the time for a record is proportional to its
 * size. The full language can compare all items of one array with all of another: PostgreSQL does this without looking at
 * statement_timeout or at a cancel request (executePredicate in jsonpath_exec.c), for hours.
 *
 * Paths begin at `$`, and in a filter at `@`. So every item is looked at from one starting point, or, after `.**`, from few. A
 * comparison has a literal on one side.
 * @throws Problem invalid_query
 */
export function readJsonpath(written: string): Jsonpath {
  const text: JsonpathText = new JsonpathText(written)
  if (written.length > MAX_JSONPATH)
    text.refuse(`at most ${MAX_JSONPATH.toLocaleString('en')} characters are possible`, MAX_JSONPATH)
  const rules: StepRules = {
    steps: 0,
    hasBelow: false,
    isBelow: false,
    inFilter: false,
    isMethod: false,
    readFilter,
    count,
  }
  let conditions = 0

  if (text.takeWord('strict')) text.refuse('strict mode is not possible. Leave the word out', 0)
  text.takeWord('lax')
  const kind = readAny()
  if (!text.isAtEnd()) text.refuse(notOperator(text))
  if (rules.hasBelow && conditions > MAX_CONDITIONS_BELOW)
    text.refuse(`with .**, at most ${MAX_CONDITIONS_BELOW} conditions, positions and methods are possible. ${FEWER}`, 0)
  return { kind, text: written }

  /** Conditions with || between them, or a path. */
  function readAny(): Kind {
    return readList('||', () => readList('&&', readOne))
  }

  function readList(operator: '||' | '&&', readNext: () => Kind): Kind {
    const start = text.at
    let kind = readNext()
    while (text.take(operator)) {
      if (kind === 'path') refusePath(start)
      const next = text.at
      if (readNext() === 'path') refusePath(next)
      kind = 'condition'
    }
    return kind
  }

  /** Conditions in which no path stands alone. */
  function readCondition(): void {
    const start = text.at
    if (readAny() === 'path') refusePath(start)
  }

  function readOne(): Kind {
    if (text.take('!')) {
      if (text.takeWord('exists')) return readExists()
      text.expect('(', 'after !, write the condition in parentheses: !($.a == 1)')
      readCondition()
      text.expect(')', 'a ) is missing')
      return 'condition'
    }
    if (text.take('(')) {
      readCondition()
      text.expect(')', 'a ) is missing')
      if (text.takeWord('is') && !text.takeWord('unknown')) text.refuse('after is, write unknown')
      return 'condition'
    }
    if (text.takeWord('exists')) return readExists()
    return readComparison()
  }

  function readExists(): Kind {
    text.expect('(', 'after exists, write a path in parentheses: exists($.a)')
    count()
    readPath()
    text.expect(')', notExists(text, rules.inFilter))
    return 'condition'
  }

  function readComparison(): Kind {
    if (takeLiteral()) {
      if (!text.match(COMPARISON)) text.refuse(notOperator(text))
      count()
      if (takeLiteral()) text.refuse('one side of a comparison must be a path, such as $.a')
      readPath()
      return 'condition'
    }
    readPath()
    if (text.match(COMPARISON)) {
      count()
      if (!takeLiteral()) text.refuse(notLiteral(text))
      return 'condition'
    }
    if (text.takeWord('starts')) {
      count()
      if (!text.takeWord('with')) text.refuse('after starts, write with')
      if (text.string() === undefined) text.refuse('after starts with, write a text in double quotes')
      return 'condition'
    }
    if (!text.takeWord('like_regex')) return 'path'
    count()
    readPattern()
    return 'condition'
  }

  function readPattern(): void {
    const start = text.at
    const pattern = text.string()
    if (pattern === undefined) text.refuse('after like_regex, write a pattern in double quotes')
    const flagsAt = text.at
    const flags = text.takeWord('flag') ? (text.string() ?? '?') : ''
    if (!FLAGS.test(flags)) text.refuse('the flags are i, s, m and q, as in flag "i"', flagsAt)
    const fault = flags.includes('q') ? undefined : checkPattern(pattern)
    if (fault !== undefined) text.refuse(fault, start)
  }

  function readPath(): void {
    readSteps(text, rules)
  }

  /** `(…)` after a question mark. */
  function readFilter(): void {
    rules.inFilter = true
    text.expect('(', 'after ?, write a condition in parentheses: ?(@.a == 1)')
    readCondition()
    text.expect(')', 'a ) is missing at the end of the filter')
    rules.inFilter = false
  }

  function takeLiteral(): boolean {
    return text.match(NUMBER) || text.match(CONSTANT) || text.string() !== undefined
  }

  function count(): void {
    if (++conditions > MAX_CONDITIONS)
      text.refuse(`at most ${MAX_CONDITIONS} conditions, positions and methods are possible. ${FEWER}`)
  }

  function refusePath(start: number): never {
    return text.refuse(`a path alone is no condition. Compare it with ${LITERAL}, or write exists(…)`, start)
  }
}

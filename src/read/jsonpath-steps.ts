import { noIndex, noName, noStart } from './jsonpath-hints.ts'
import type { JsonpathText } from './jsonpath-text.ts'

/** Each step takes time for every item. */
export const MAX_STEPS = 32

const NAME = /[\p{L}_][\p{L}\p{N}_]*/uy
const VARIABLE = /\$(?=[\p{L}\p{N}_"])/uy
const METHODS = ['size', 'type', 'number']
const INDEX = /(?:0|[1-9]\d{0,8})(?=[ \t\n\r\f]*\])/y

/** What the paths of one expression have in common. */
export interface StepRules {
  /** How many steps were read. */
  steps: number
  /** Whether `.**` was read. */
  hasBelow: boolean
  /** Whether `.**` was read in the path that is being read, or in the one whose filter is being read. */
  isBelow: boolean
  /** In a filter, where paths begin with `@`. */
  inFilter: boolean
  /** Whether the last step was a method. */
  isMethod: boolean
  /** Reads a filter, after its question mark. */
  readFilter(): void
  /** Counts what takes memory for each item. */
  count(): void
}

/** Reads a path: `$` or `@`, and its steps. @throws Problem invalid_query */
export function readSteps(text: JsonpathText, rules: StepRules): void {
  const { inFilter, isBelow, isMethod } = rules
  const start = text.at
  if (text.match(VARIABLE))
    text.refuse('variables do not exist. Write the value instead, and $.name for a member', start)
  if (!text.take(inFilter ? '@' : '$')) text.refuse(noStart(text, inFilter))
  rules.isMethod = false
  while (readStep(text, rules));
  rules.isBelow = isBelow
  rules.isMethod = isMethod
}

function readStep(text: JsonpathText, rules: StepRules): boolean {
  const start = text.at
  const isAfterMethod = rules.isMethod
  if (text.take('?')) {
    if (rules.inFilter) text.refuse('a filter cannot contain a filter. Join the conditions with &&', start)
    rules.readFilter()
  } else if (text.take('[')) readIndex(text, rules)
  else if (text.take('.')) readMember(text, rules, start)
  else return false
  if (isAfterMethod) text.refuse('nothing may follow .size(), .type() or .number()', start)
  // `[…]` and `.*` can stay at an item, or be reached from each of its ancestors. By names, an item is reached from at most two.
  if (rules.isBelow && text.since(start).match(/^\[|^\.\s*\*(?!\*)/))
    text.refuse('after .**, only names are possible. It also finds the items of arrays', start)
  if (++rules.steps > MAX_STEPS) text.refuse(`at most ${MAX_STEPS} steps, such as .name and [*], are possible`, start)
  return true
}

function readMember(text: JsonpathText, rules: StepRules, start: number): void {
  if (text.take('**')) {
    if (rules.hasBelow) text.refuse('.** may occur once', start)
    if (text.sees('{')) text.refuse('write .** without levels')
    rules.hasBelow = true
    rules.isBelow = true
  } else if (!text.take('*') && text.string() === undefined) {
    const name = text.read(NAME)
    if (name === undefined) text.refuse(noName(text))
    if (!text.take('(')) return
    if (!METHODS.includes(name))
      text.refuse(`.${name}() is not possible. Possible are .size(), .type() and .number()`, start)
    text.expect(')', `write .${name}()`)
    rules.isMethod = true
    rules.count()
  }
}

function readIndex(text: JsonpathText, rules: StepRules): void {
  const isAll = text.take('*')
  const isRead = isAll || text.takeWord('last') || text.match(INDEX)
  if (!isRead || !text.take(']')) text.refuse(noIndex(text))
  if (!isAll) rules.count()
}

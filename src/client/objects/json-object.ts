import { nameAt, skipSpace } from '../../lib/json/extent.ts'
import { notJson } from '../../lib/json/parse.ts'
import { JsonWalk, MAX_DEPTH_WALKED } from '../../lib/json/walk.ts'

/** A member of an object, as in the text: nothing is parsed, so that numbers keep their digits. */
export interface ObjectMember {
  name: string
  /** `"name":value` */
  text: string
  value: string
}

/** The members of an object, also repeated ones; or why the text is not an object, as a sentence. */
export function readObject(text: string): { members: ObjectMember[] } | { reason: string } {
  const walk = new JsonWalk(text, 0, Number.POSITIVE_INFINITY)
  walk.run(text.length + 1)
  const end = walk.fault ?? skipSpace(text, walk.end)
  if (walk.deepest > MAX_DEPTH_WALKED) return { reason: 'It is nested too deeply.' }
  if (end < text.length || walk.fault !== undefined) return { reason: notJson(text, end, 'record').detail }
  if (text.charAt(skipSpace(text, 0)) !== '{') return { reason: 'It is not a JSON object.' }
  const members = walk.members.map(({ nameStart, valueStart, valueEnd }) => ({
    name: nameAt(text, nameStart),
    text: text.slice(nameStart, valueEnd),
    value: text.slice(valueStart, valueEnd),
  }))
  return { members }
}

/**
 * The value of a member as text; undefined if there is none.
 * @param members of the outermost object
 * @param from the name of a member; or, if it begins with a slash, a JSON Pointer (RFC 6901) to a nested one
 * @throws RepeatedName
 */
export function valueAt(members: readonly ObjectMember[], from: string): string | undefined {
  if (!from.startsWith('/')) return findOnly(members, from)
  const [first = '', ...tokens] = readPointer(from)
  return tokens.reduce<string | undefined>(childOf, findOnly(members, first))
}

/** The tokens of a JSON Pointer. */
const readPointer = (pointer: string) =>
  pointer
    .slice(1)
    .split('/')
    .map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'))

function findOnly(members: readonly ObjectMember[], name: string): string | undefined {
  const found = members.filter((one) => one.name === name)
  if (found.length > 1) throw new RepeatedName(name)
  return found[0]?.value
}

/** Which of the values is meant is unknown. */
export class RepeatedName extends Error {}

function childOf(value: string | undefined, token: string): string | undefined {
  if (value?.startsWith('[')) return /^(?:0|[1-9]\d{0,8})$/.test(token) ? elementOf(value, Number(token)) : undefined
  if (!value?.startsWith('{')) return undefined
  const read = readObject(value)
  return 'reason' in read ? undefined : findOnly(read.members, token)
}

function elementOf(array: string, index: number): string | undefined {
  let at = skipSpace(array, 1)
  for (let left = index; array.charAt(at) !== ']'; left--) {
    const walk = new JsonWalk(array, at)
    walk.run(array.length)
    if (left === 0) return array.slice(at, walk.end)
    at = skipSpace(array, walk.end)
    if (array.charAt(at) === ',') at = skipSpace(array, at + 1)
  }
  return undefined
}

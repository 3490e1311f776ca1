import { printable } from '../../lib/printable.ts'
import { quoted } from '../../lib/quoted.ts'
import type { Mapping } from '../mapping.ts'
import { type ObjectMember, readObject } from './json-object.ts'

/** How many objects may be around the records, as in `{"hits":{"hits":[…]}}`. */
const LEVELS = 3

/**
 * Refuses an object that is alone in its input and rather contains the records, as a page of an API does: it would be one record.
 * An id shows that it is a record itself, and so does --map data=.
 * @throws Error with a sentence and the command to type
 */
export function checkWrapper(members: readonly ObjectMember[], { map, set }: Mapping): void {
  const names = members.map(({ name }) => name)
  if (map.get('id') || set.has('id') || map.has('data') || names.includes('id')) return
  if (names.includes('source') && names.includes('type')) return
  const path = findRecords(members, LEVELS)
  // The default of pandas: {"a":{"0":1,"1":2},"b":{"0":3,"1":4}}.
  if (members.length > 0 && members.every(({ value }) => /^\{\s*"0"\s*:/.test(value)))
    throw new Error(
      "it is a single object of columns, as pandas writes it. Write its rows: to_json(orient='records', lines=True)",
    )
  const isTable = members.length > 1 && members.every(({ value }) => value.startsWith('{'))
  if (path === undefined && !isTable) return
  const [what, filter] =
    path === undefined
      ? ['all its members are objects', 'to_entries[] | {id: .key} + .value']
      : [`${path.map(quoted).join('/')} in it is an array of objects`, `${path.map(step).join('')}[]`]
  throw new Error(
    `it is a single object, and ${what}. If these are the records: jq -c '${filter}' FILE | sluice load - …; if the whole object is one record, add --map data=`,
  )
}

/** The names that lead to the longest array of objects; undefined: there is none. */
function findRecords(members: readonly ObjectMember[], levels: number): string[] | undefined {
  const [longest] = members
    .filter(({ value }) => /^\[\s*\{/.test(value))
    .toSorted((one, other) => other.value.length - one.value.length)
  if (longest !== undefined) return [longest.name]
  if (levels === 1) return undefined
  for (const { name, value } of members) {
    const inner = value.startsWith('{') ? readObject(value) : undefined
    const path = inner === undefined || 'reason' in inner ? undefined : findRecords(inner.members, levels - 1)
    if (path !== undefined) return [name, ...path]
  }
  return undefined
}

/** A step of a jq filter. */
const step = (name: string, at: number) =>
  /^[A-Za-z_]\w*$/.test(name) ? `.${name}` : `${at === 0 ? '.' : ''}[${printable(JSON.stringify(name))}]`

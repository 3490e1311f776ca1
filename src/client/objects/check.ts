import { textOfFile } from '../../lib/looks-like.ts'
import { quoted } from '../../lib/quoted.ts'
import type { InputLine } from '../lines.ts'
import { attributesOf, findCaseFault, type Mapping, makeUnfit, meant, shell, Unfit } from '../mapping.ts'
import { type ObjectMember, readObject, valueAt } from './json-object.ts'
import { isOfData } from './mapping.ts'
import { checkWrapper } from './wrapper.ts'

/**
 * Checks the first objects of an input.
 * @param isLines whether each line is an object
 * @throws Unfit if the mapping, or the lack of one, fits none of them
 */
export function checkObjects(lines: readonly InputLine[], mapping: Mapping, isLines: boolean): void {
  const [first] = lines
  if (first === undefined) return
  const begin = first.original.toString('utf8', 0, 60).trim()
  // No object begins like this, but its elements may be on lines of their own.
  if (isLines && begin.startsWith('['))
    throw new Unfit(`it begins with ${quoted(begin)}, like a JSON array: use --format json`, ['--format', 'json'])
  const objects = lines.flatMap(({ record }) => {
    const read = record === undefined ? undefined : readObject(record.toString())
    return read === undefined || 'reason' in read ? [] : [read.members]
  })
  if (objects.length === 0) throw noObjects(lines, begin, isLines)
  const [only] = objects
  if (lines.length === 1 && only !== undefined) checkWrapper(only, mapping)
  const attributes = attributesOf(mapping)
  const isKnown = (name: string) => objects.some((members) => hasValue(members, attributes.get(name) ?? ''))
  const wrong = [...attributes].filter(([name]) => mapping.map.has(name) && !isKnown(name))
  const missing = ['source', 'type'].filter(
    (name) => !mapping.set.has(name) && !mapping.map.get(name) && !isKnown(name),
  )
  const names = [...new Set(objects.flatMap((members) => members.map(({ name }) => name)))]
  const faults = isOfData(mapping) ? names.map((name) => [name, findCaseFault(name, names, mapping)] as const) : []
  const problems = [
    ...wrong.map(([name, from]) => ({
      text: `no object has the member ${quoted(from)} of --map ${shell(`${name}=${from}`)}${meant(from, names)}`,
    })),
    ...faults.flatMap(([name, fault]) =>
      fault === undefined ? [] : [{ ...fault, text: `its member ${quoted(name)} ${fault.text}` }],
    ),
  ]
  if (problems.length + missing.length > 0) throw makeUnfit(problems, missing, 'member', names)
}

function noObjects(lines: readonly InputLine[], begin: string, isLines: boolean): Error {
  const { record, reason } = lines[0] ?? {}
  if (begin.startsWith('{')) {
    const read = record === undefined ? { reason } : readObject(record.toString())
    return new Error(`its first object cannot be read. ${'reason' in read ? read.reason : ''}`)
  }
  const what = `it has no JSON object, and begins with ${quoted(begin)}`
  if (!isLines && begin.startsWith('['))
    return new Error(`${what}. If its arrays are rows: jq -r '.[] | @csv' FILE | sluice load - --format csv …`)
  if (isJson(record)) return new Error(what)
  const look = textOfFile(
    lines
      .slice(0, 3)
      .map(({ original }) => original.toString('utf8', 0, 256))
      .join('\n'),
  )
  return new Error(
    look === undefined
      ? `${what}. Use --format csv or --format tsv if it is that`
      : `${what}. It looks like ${look.name}. ${look.advice}`,
  )
}

function isJson(text: Buffer | undefined): boolean {
  try {
    JSON.parse(String(text))
    return true
  } catch {
    return false
  }
}

function hasValue(members: readonly ObjectMember[], from: string): boolean {
  try {
    return valueAt(members, from) !== undefined
  } catch {
    return true
  }
}

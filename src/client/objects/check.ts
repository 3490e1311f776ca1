import { quoted } from '../../lib/printable.ts'
import type { InputLine } from '../lines.ts'
import { attributesOf, findCaseFault, type Mapping, makeUnfit, shell, Unfit } from '../mapping.ts'
import { type ObjectMember, readObject, valueAt } from './json-object.ts'
import { isOfData } from './mapping.ts'

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
  if (objects.length === 0) {
    const hint = begin.startsWith('{') ? 'json if an object has several lines' : 'csv or --format tsv if it is that'
    throw new Error(`it has no JSON object, and begins with ${quoted(begin)}. Use --format ${hint}`)
  }
  const attributes = attributesOf(mapping)
  const isKnown = (name: string) => objects.some((members) => hasValue(members, attributes.get(name) ?? ''))
  const wrong = [...attributes].filter(([name]) => mapping.map.has(name) && !isKnown(name))
  const missing = ['source', 'type'].filter(
    (name) => !mapping.set.has(name) && !mapping.map.get(name) && !isKnown(name),
  )
  const names = [...new Set(objects.flatMap((members) => members.map(({ name }) => name)))]
  const faults = isOfData(mapping) ? names.map((name) => [name, findCaseFault(name, names, mapping)] as const) : []
  const problems = [
    ...wrong.map(([name, from]) => `no object has the member ${quoted(from)} of --map ${shell(`${name}=${from}`)}`),
    ...faults.flatMap(([name, fault]) => (fault === undefined ? [] : [`its member ${quoted(name)} ${fault}`])),
  ]
  if (problems.length + missing.length > 0) throw makeUnfit(problems, missing, 'member', names)
}

function hasValue(members: readonly ObjectMember[], from: string): boolean {
  try {
    return valueAt(members, from) !== undefined
  } catch {
    return true
  }
}

import { isUtf8 } from 'node:buffer'
import { quoted } from '../../lib/printable.ts'
import { NOT_UTF8 } from '../lines.ts'
import { ATTRIBUTES, attributesOf, constantsOf, type Mapping, member, PAYLOADS } from '../mapping.ts'
import { type ObjectMember, RepeatedName, readObject, valueAt } from './json-object.ts'

/** A record as JSON, or why the object cannot become one. */
type Made = { record: string } | { reason: string }

/** Converts an object of a file into a record. */
type MakeRecord = (object: Buffer) => Made

/** Whether the objects of a file are data. Otherwise they are records, with all their attributes. */
export const isOfData = ({ map, set }: Mapping) => map.size > 0 || set.has('source') || set.has('type')

/** Plans how objects become records; undefined: they are sent as they are. */
export function planObjects(mapping: Mapping): MakeRecord | undefined {
  if (!isOfData(mapping) && mapping.set.size === 0 && mapping.readTime === undefined) return undefined
  const make = isOfData(mapping) ? fromData(mapping) : fromRecord(mapping)
  return (object) => {
    if (!isUtf8(object)) return { reason: NOT_UTF8 }
    const read = readObject(object.toString())
    if ('reason' in read) return read
    try {
      return make(read.members)
    } catch (error) {
      if (error instanceof RepeatedName) return { reason: `It repeats the member ${quoted(error.message)}.` }
      throw error
    }
  }
}

/** Adds attributes to a record, or replaces them. */
function fromRecord(mapping: Mapping): (members: readonly ObjectMember[]) => Made {
  const { set, readTime } = mapping
  const constants = constantsOf(mapping)
  return (members) => {
    for (const name of set.keys()) valueAt(members, name)
    const time =
      readTime && !set.has('time') ? readAttribute('time', 'time', valueAt(members, 'time'), mapping) : undefined
    if (time !== undefined && 'reason' in time) return time
    const kept = members.filter(({ name }) => !set.has(name) && !(name === 'time' && time !== undefined))
    return { record: `{${[...constants, ...(time?.texts ?? []), ...kept.map(({ text }) => text)].join()}}` }
  }
}

/** Makes records of objects that are not records: some members are attributes, all others are members of data. */
function fromData(mapping: Mapping): (members: readonly ObjectMember[]) => Made {
  const { map, set } = mapping
  const attributes = attributesOf(mapping)
  for (const [name, from] of attributes) checkPointer(name, from)
  const used = new Set([...attributes.values()].filter((from) => !from.startsWith('/')))
  const hasPayload = PAYLOADS.some((name) => map.get(name))
  const constants = constantsOf(mapping)

  return (members) => {
    const parts = [...constants]
    for (const [name, from] of attributes) {
      const value = valueAt(members, from)
      // A made-up id would hide the mistake: the same object, loaded again from another file, would be another record.
      if (value === undefined && (name === 'source' || name === 'type' || (name === 'id' && map.has(name))))
        return { reason: `It has no member ${quoted(from)}, which is the ${name}.` }
      const read = readAttribute(name, from, value, mapping)
      if ('reason' in read) return read
      parts.push(...read.texts)
    }
    const rest = members.filter(({ name }) => !used.has(name) && !(hasPayload && set.has(name)))
    const [left] = rest
    if (hasPayload && left !== undefined)
      return { reason: `With --map data=… every other member must be mapped too, but ${quoted(left.name)} is not.` }
    if (!map.has('data') && isRecord(rest)) return { reason: ALREADY_A_RECORD }
    if (rest.length > 0) parts.push(`"data":{${rest.map(({ text }) => text).join()}}`)
    return { record: `{${parts.join()}}` }
  }
}

function checkPointer(name: string, from: string): void {
  if (!from.startsWith('/')) return
  if (/~(?![01])/.test(from))
    throw new Error(`${quoted(from)} is not a JSON Pointer: in it, ~ is ~0, and / in a name is ~1`)
  if (PAYLOADS.includes(name))
    throw new Error(
      `--map ${name}= needs the name of a member, not a JSON Pointer: the rest of the object would be lost`,
    )
}

const RECORD_MEMBERS = [...ATTRIBUTES, ...PAYLOADS, 'specversion']

/** Whether nothing remains for data but a data of its own: the object is rather a record than data. */
const isRecord = (rest: readonly ObjectMember[]) =>
  rest.some(({ name }) => PAYLOADS.includes(name)) && rest.every(({ name }) => RECORD_MEMBERS.includes(name))

const ALREADY_A_RECORD =
  'It looks like a record that has data already. Use --map data=data if this is the data, or --map data= if the whole object is.'

/**
 * The member of the record for an attribute; none if the object has no value for it.
 * @param from the member or pointer in the object
 */
function readAttribute(
  name: string,
  from: string,
  value: string | undefined,
  { readTime }: Mapping,
): { texts: string[] } | { reason: string } {
  if (name === 'data') return { texts: value === undefined ? [] : [member(name, value)] }
  // CloudEvents JSON format, section 2.2: an attribute that is null counts as absent.
  if (value === undefined || value === 'null') return { texts: [] }
  if (value.startsWith('{') || value.startsWith('['))
    return { reason: `${quoted(from)} is an ${value.startsWith('{') ? 'object' : 'array'}, but ${name} is text.` }
  const token = value.startsWith('"') ? value : `"${value}"`
  if (name !== 'time' || readTime === undefined) return { texts: [member(name, token)] }
  const read = readTime(JSON.parse(token))
  return 'reason' in read
    ? { reason: `${quoted(from)}: ${read.reason}` }
    : { texts: [member(name, JSON.stringify(read.time))] }
}

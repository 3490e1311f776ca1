import type { Listing } from '../data/listing.ts'
import { selectMembers } from '../data/select-members.ts'
import type { Payload, StoredRecord } from '../data/select-records.ts'
import { didYouMean } from '../lib/nearest.ts'
import { toRfc3339 } from '../lib/pg-time.ts'
import { quoted } from '../lib/quoted.ts'
import { inTurn, type Reader } from './reader.ts'
import { refuseParameter } from './refuse-parameter.ts'
import { cursorOf, timeOf } from './write-record.ts'

/** One field of a response: a member of the record, or a value within its extension attributes or its data. */
export interface Field {
  /** As the client wrote it. It names the member in JSON and the column in CSV. */
  name: string
  root: Root
  /** Within the root. Empty: all of it. */
  path: string[]
}

type Root = keyof typeof READ

const text = (value: string | null) => (value === null ? undefined : JSON.stringify(value))

/** How to read each member of a record, as JSON text. undefined: the record does not have it. */
const READ = {
  specversion: () => '"1.0"',
  source: ({ source }: StoredRecord) => text(source),
  id: ({ id }: StoredRecord) => text(id),
  type: ({ type }: StoredRecord) => text(type),
  time: (record: StoredRecord) => text(timeOf(record)),
  subject: ({ subject }: StoredRecord) => text(subject),
  dataschema: ({ dataschema }: StoredRecord) => text(dataschema),
  datacontenttype: ({ datacontenttype }: StoredRecord) => text(datacontenttype),
  extensions: ({ extensions }: StoredRecord) => extensions ?? undefined,
  data: ({ data }: StoredRecord) => data ?? undefined,
  data_base64: ({ data_base64 }: StoredRecord) => text(data_base64),
  receivedAt: ({ received_at }: StoredRecord) => text(toRfc3339(received_at)),
  cursor: (record: StoredRecord) => text(cursorOf(record)),
}

const MAX_FIELDS = 200

/** A name, or steps of a path with a dot between them. A step with a dot, a comma or a quote is a string in JSON. */
const STEP = /"(?:[^"\\]|\\.)*"|[^.,"]+/.source
const FIELD = new RegExp(`(${STEP}(?:\\.(?:${STEP}))*)(,|$)`, 'y')
const STEPS = new RegExp(STEP, 'g')

/**
 * Parses `id,time,data.total,data.customer."e.mail",extensions.batch`.
 * @throws Problem invalid_query
 */
function parseFields(written: string): Field[] {
  const fields: Field[] = []
  const names = new Set<string>()
  for (let at = 0; at < written.length || at === 0; ) {
    FIELD.lastIndex = at
    const found = FIELD.exec(written)
    if (found === null)
      refuseParameter('fields', `cannot be read at character ${at + 1}: write names with a comma between them`)
    const [whole, name = ''] = found
    if (names.has(name)) refuseParameter('fields', `contains ${name} twice`)
    if (names.size === MAX_FIELDS) refuseParameter('fields', `has more than ${MAX_FIELDS} names`)
    names.add(name)
    fields.push(toField(name))
    at += whole.length
    if (whole.endsWith(',') && at === written.length) refuseParameter('fields', 'ends with a comma')
  }
  return fields
}

function toField(name: string): Field {
  const shown = name.length > 60 ? quoted(name) : name
  const [root = '', ...path] = (name.match(STEPS) ?? []).map(readStep)
  if (name !== name.trim()) refuseParameter('fields', `contains a space next to ${shown.trim()}. Remove it`)
  if (!Object.hasOwn(READ, root))
    refuseParameter(
      'fields',
      `contains ${shown}, which is not a field of a record.${didYouMean(root, Object.keys(READ))} A member of the data is data.${shown}, an extension attribute is extensions.${shown}. The fields are ${Object.keys(READ).join(', ')}`,
    )
  if (path.some((step) => step.includes('\0') || !step.isWellFormed()))
    refuseParameter('fields', `contains ${shown}, but no record can contain U+0000 or a lone surrogate`)
  if (path.length > 0 && root !== 'data' && root !== 'extensions')
    refuseParameter('fields', `contains ${shown}, but only data and extensions have members`)
  return { name, root: root as Root, path }
}

function readStep(step: string): string {
  if (!step.startsWith('"')) return step
  try {
    return JSON.parse(step)
  } catch {
    return refuseParameter('fields', `contains ${step}, which is not a JSON string`)
  }
}

/** One field for each member of the data. */
const EVERY_MEMBER = 'data.*'

/**
 * Reads the parameter `fields`, and finds the members for `data.*`.
 * @param limit how many records are listed; undefined: all
 * @throws Problem invalid_query, overloaded; the reason of the reader's signal
 */
export async function readFields(
  reader: Reader,
  written: string | undefined,
  listing: Listing,
  limit: number | undefined,
): Promise<Field[] | undefined> {
  if (written === undefined) return undefined
  const fields = parseFields(written)
  const at = fields.findIndex(({ name }) => name === EVERY_MEMBER)
  if (at === -1) return fields
  const { db, signal } = reader
  const members = await inTurn(reader, () => selectMembers(db, listing, limit, MAX_FIELDS + 1, signal))
  const others = new Set(fields.map(({ name }) => name))
  const found = members
    .map((member): Field => ({ name: `data.${quote(member)}`, root: 'data', path: [member] }))
    .filter(({ name }) => !others.has(name))
  if (fields.length - 1 + found.length > MAX_FIELDS)
    refuseParameter('fields', `contains data.*, but the data has more than ${MAX_FIELDS} members: name those you need`)
  return fields.toSpliced(at, 1, ...found)
}

const quote = (step: string) => (/^[^.,"]+$/.test(step) ? step : JSON.stringify(step))

/** What these fields need of the payload. */
export const neededPayload = (fields: readonly Field[]): Payload => ({
  whole: fields.some(({ root, path }) => (root === 'data' && path.length === 0) || root === 'data_base64'),
  paths: fields.filter(({ root, path }) => root === 'data' && path.length > 0).map(({ path }) => path),
})

/** A record in JSON with these members only. Those that it does not have are left out. */
export function writeFields(record: StoredRecord, fields: readonly Field[]): string {
  const values = valuesOf(record, fields)
  const members = fields.flatMap(({ name }, at) =>
    values[at] === undefined ? [] : [`${JSON.stringify(name)}:${values[at]}`],
  )
  return `{${members.join()}}`
}

/** A record as a row of CSV: text without quotes, other values in JSON, and nothing for null and for what it does not have. */
export function toCells(record: StoredRecord, fields: readonly Field[]): (string | undefined)[] {
  return valuesOf(record, fields).map((value) => {
    if (value === undefined || value === 'null') return undefined
    return value.startsWith('"') ? (JSON.parse(value) as string) : value
  })
}

/** The JSON text of each field. */
function valuesOf(record: StoredRecord, fields: readonly Field[]): (string | undefined)[] {
  const picked = (record.picked ?? [])[Symbol.iterator]()
  const extensions = fields.some(({ root, path }) => root === 'extensions' && path.length > 0)
    ? (JSON.parse(record.extensions ?? '{}') as Record<string, unknown>)
    : {}
  return fields.map(({ root, path }) => {
    if (path.length === 0) return READ[root](record)
    if (root === 'data') return picked.next().value ?? undefined
    const [name = '', ...deeper] = path
    return deeper.length > 0 || !Object.hasOwn(extensions, name) ? undefined : JSON.stringify(extensions[name])
  })
}

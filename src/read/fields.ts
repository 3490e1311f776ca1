import type { PartColumn, Parts } from '../data/record-parts.ts'
import { nearest } from '../lib/nearest.ts'
import { quoted } from '../lib/quoted.ts'
import { CSV_COLUMNS } from '../schemas/csv.ts'
import { fieldHint, shownField } from './field-hints.ts'
import { refuseParameter } from './refuse-parameter.ts'

export const MAX_FIELDS = 100
/** In characters. */
export const MAX_FIELDS_LENGTH = 4096
/** A record that lacks the field is written as deep as its path. */
export const MAX_FIELD_STEPS = 32

/** The members of a record, as they are called in CSV. */
const ROOTS = ['specversion', ...CSV_COLUMNS] as const

/** One field of a response: a member of the record, or a value within its data or its extension attributes. */
export interface Field {
  /** As in the parameter. It names the column in CSV. */
  name: string
  root: (typeof ROOTS)[number]
  /** Within the root. Empty: all of it. */
  path: string[]
}

/** A step of a path. With a dot, a comma, a quote or a bracket in it, it is written as a string in JSON. */
const STEP = /\s*"(?:[^"\\]|\\.)*"\s*|[^.,"'[\]]+/.source
const FIELD = new RegExp(`(${STEP}(?:\\.(?:${STEP}))*)(,|$)`, 'sy')
/** As much of a field as can be read. */
const BEGINNING = new RegExp(`(?:(?:${STEP})\\.)*(?:${STEP})?`, 'sy')
const STEPS = new RegExp(STEP, 'gs')

/**
 * Reads `id,time,data.total,data.customer."e.mail",extensions.batch`. No value is part of two fields: otherwise a response could be
 * many times as large as its records.
 * @throws Problem invalid_query
 */
export function readFields(written: string): Field[] {
  if (written.length > MAX_FIELDS_LENGTH)
    refuseParameter(
      'fields',
      `may have at most ${MAX_FIELDS_LENGTH.toLocaleString('en')} characters. It has ${written.length.toLocaleString('en')}`,
    )
  const fields: Field[] = []
  for (let at = 0, isLast = false; !isLast; ) {
    FIELD.lastIndex = at
    const [whole, name, end] = FIELD.exec(written) ?? []
    if (whole === undefined || name === undefined) return refuseUnreadable(written, at)
    fields.push(readField(name))
    at += whole.length
    isLast = end === ''
  }
  if (fields.length > MAX_FIELDS)
    refuseParameter('fields', `may have at most ${MAX_FIELDS} names. It has ${fields.length}`)
  refuseOverlaps(fields)
  return fields
}

/** @param start of the field */
function refuseUnreadable(written: string, start: number): never {
  BEGINNING.lastIndex = start
  const at = start + (BEGINNING.exec(written)?.[0].length ?? 0)
  const rest = written.slice(at)
  const place = rest === '' ? 'its end' : `character ${at + 1} (${quoted(rest)})`
  const hint =
    fieldHint(written.slice(start), ROOTS) ||
    (/^["'[\]]/.test(rest) ? ' A name with quotes or brackets is written as in JSON, such as data."e.mail".' : '')
  return refuseParameter(
    'fields',
    `cannot be read at ${place}: write names with a comma between them, such as id,data.total.${hint}`,
  )
}

function readField(written: string): Field {
  const steps = (written.match(STEPS) ?? []).map(readStep)
  const name = steps.map(quoteStep).join('.')
  const [root = '', ...path] = steps
  if (!isRoot(root)) {
    const meant = nearest(root, ROOTS)
    const hint =
      fieldHint(written, ROOTS) ||
      `${meant === undefined ? '' : ` Did you mean ${meant}?`} A member of the data is data.${shownField(name)}, an extension attribute is extensions.${shownField(name)}.`
    return refuseParameter(
      'fields',
      `contains ${quoted(name)}, which is not a field.${hint} The fields are ${ROOTS.join(', ')}`,
    )
  }
  if (path.length > 0 && root !== 'data' && root !== 'extensions')
    refuseParameter('fields', `contains ${quoted(name)}, but only data and extensions have members`)
  if (path.length >= MAX_FIELD_STEPS)
    refuseParameter(
      'fields',
      `contains a name of ${path.length + 1} steps, and at most ${MAX_FIELD_STEPS} are possible`,
    )
  if (path.length > 1 && root === 'extensions')
    refuseParameter('fields', `contains ${quoted(name)}, but extension attributes have no members`)
  return { name, root, path }
}

const isRoot = (name: string): name is Field['root'] => (ROOTS as readonly string[]).includes(name)

/** @returns the name that a step stands for */
function readStep(written: string): string {
  const step = written.trim()
  if (step === '') refuseParameter('fields', 'contains an empty name. Write names with a comma between them')
  if (step === '*')
    refuseParameter(
      'fields',
      'contains *, which is not possible: write the name of each member. A member called * is written "*"',
    )
  const name = step.startsWith('"') ? unquote(step) : step
  if (name.includes('\0') || !name.isWellFormed())
    refuseParameter('fields', `contains ${quoted(step)}, but no record can contain U+0000 or a lone surrogate`)
  return name
}

function unquote(step: string): string {
  try {
    return JSON.parse(step)
  } catch {
    return refuseParameter('fields', `contains ${shownField(step)}, which is not a string in JSON`)
  }
}

const quoteStep = (name: string) => (/^[^.,"'[\]\\\s*\p{C}]+$/u.test(name) ? name : JSON.stringify(name))

function refuseOverlaps(fields: readonly Field[]): void {
  for (const [at, one] of fields.entries())
    for (const other of fields.slice(0, at)) {
      const [outer, inner] = one.path.length < other.path.length ? [one, other] : [other, one]
      if (outer.root !== inner.root || outer.path.some((step, n) => step !== inner.path[n])) continue
      if (outer.path.length === inner.path.length) refuseParameter('fields', `contains ${shownField(inner.name)} twice`)
      refuseParameter(
        'fields',
        `contains ${shownField(outer.name)} and ${shownField(inner.name)}, which is part of it. Remove one of them`,
      )
    }
}

const COLUMNS: readonly PartColumn[] = ['subject', 'dataschema', 'datacontenttype', 'extensions', 'data', 'data_base64']

/** What to read from the database for these fields. */
export function partsOf(fields: readonly Field[]): Parts {
  const roots: readonly string[] = fields.map(({ root }) => root)
  // In JSON, every step has its own quotes, colon, comma and braces, and an absent value is null.
  const frame = fields.reduce((sum, { name, path }) => sum + Buffer.byteLength(name) + 8 * (path.length + 2), 0)
  return { columns: COLUMNS.filter((column) => roots.includes(column)), frame }
}

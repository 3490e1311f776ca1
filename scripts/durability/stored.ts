import { isDeepStrictEqual } from 'node:util'
import { isContested, rivalsOf } from './plans.ts'
import { type Content, contentOf, idOf, numberOf, requestOf } from './records.ts'

/** A stored record: a row of the table, or a record that a reader saw. */
export interface Stored {
  /** Absent if no record of this run can have this id. */
  number?: number | undefined
  id: string
  cursor: string
  /** Which content it has. Absent if no client sent this content. */
  variant?: number | undefined
  /** The first difference from what was sent. Absent if there is none. */
  difference?: string | undefined
}

/** The fields of a record except its source; absent fields are left out. */
export interface Fields {
  id: string
  type: string
  subject?: string | undefined
  /** In UTC. */
  time?: string | undefined
  dataschema?: string | undefined
  datacontenttype?: string | undefined
  extensions: Record<string, unknown>
  data?: unknown
  data_base64?: string | undefined
}

/**
 * Determines which record this is, and whether every field is as it was sent.
 * @param readData converts the JSON text that was sent to the expected value of `fields.data`. By default, it is the text itself
 */
export function recognise(
  fields: Fields,
  cursor: string,
  readData: (text: string) => unknown = (text) => text,
): Stored {
  const number = numberOf(fields.id)
  if (number === undefined || idOf(number) !== fields.id) return { number, id: fields.id, cursor, difference: 'the id' }
  const request = requestOf(number)
  const variants = isContested(request) ? new Set(rivalsOf(request).map(({ variant }) => variant)) : [0]
  let difference: string | undefined
  for (const variant of variants) {
    const { time, data, ...content } = contentOf(number, variant)
    const sent = { id: fields.id, ...content, time: time?.utc, data: data === undefined ? undefined : readData(data) }
    const different = compare(sent, fields)
    if (different === undefined) return { number, id: fields.id, cursor, variant }
    difference ??= different
  }
  return { number, id: fields.id, cursor, difference }
}

function compare(sent: Omit<Content, 'data' | 'time'> & object, found: Fields): string | undefined {
  const names = new Set([...Object.keys(sent), ...Object.keys(found)]) as Set<keyof typeof sent & keyof Fields>
  for (const name of names) {
    if (isDeepStrictEqual(sent[name], found[name])) continue
    return `${name} is ${textOf(found[name])}, but ${textOf(sent[name])} was sent`
  }
  return undefined
}

const textOf = (value: unknown) => (value === undefined ? 'missing' : JSON.stringify(value).slice(0, MAX_TEXT_LENGTH))

/** Maximum length of a value in a complaint, in characters. */
const MAX_TEXT_LENGTH = 500

/** A record as the API shows it. */
interface Shown extends Omit<Fields, 'extensions'> {
  specversion: string
  source: string
  receivedAt: string
  cursor: string
  [extension: string]: unknown
}

/** @param record parsed by parseExactly() */
export function recogniseShown(record: Shown): Stored {
  const { specversion, source: _, receivedAt, cursor, ...rest } = record
  const { id, type, subject, time, dataschema, datacontenttype, data, data_base64, ...extensions } = rest
  // A record that was sent without a time is shown with the time of receipt.
  const own = time === receivedAt ? undefined : time
  for (const [name, value] of Object.entries(extensions))
    if (value instanceof Digits) extensions[name] = Number(value.text)
  const exact = { id, type, subject, time: own, dataschema, datacontenttype, extensions, data, data_base64 }
  const stored = recognise(exact, cursor, parseExactly)
  if (specversion === '1.0' && TIME.test(receivedAt)) return stored
  return { ...stored, variant: undefined, difference: 'specversion or receivedAt' }
}

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z$/

/** The text of a number, because JSON.parse rounds numbers that a double cannot hold. */
class Digits {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

/** Parses JSON and keeps the text of each number. */
export function parseExactly(text: string): unknown {
  return JSON.parse(text, ((_: string, value: unknown, { source }: { source: string }) =>
    typeof value === 'number' ? new Digits(source) : value) as never)
}

import { hash } from 'node:crypto'
import { membersOf } from './raw-json.ts'

/** A record without its identity. */
export interface Content {
  /** Two contents of one identity are equal for Sluice if and only if their keys are equal. The key is chosen, not computed. */
  key: string
  type: string
  subject?: string
  time?: { sent: string; utc: string }
  dataschema?: string
  datacontenttype?: string
  extensions: Record<string, string | number | boolean>
  /** JSON text, which must be stored unchanged. */
  data?: string
  /** Instead of data. */
  base64?: string
}

/** Number of contents per identity. */
export const VARIANTS = 8
/** Contents that the binary mode of CloudEvents can express. */
export const BINARY_VARIANTS = [1, 2, 3, 4]

const NUMBERS = ['12345678901234567890', '0.1000000000000000055', '-0', '1E+5', '1.50', '-1e-300']

/**
 * @param owner the identity of the record; the data contains it, so that a content with another identity is found
 * @param spelling 0 or 1: another order of keys and other white space with the same meaning, if the data is an object
 */
export function contentOf(owner: string, variant: number, spelling: number): Content {
  const key = `variant ${variant}`
  const object = (...members: [string, string][]) => write([['owner', JSON.stringify(owner)], ...members], spelling)
  const json = { datacontenttype: 'application/json' }
  switch (variant) {
    case 1:
      return {
        ...{ key, ...json, type: 'model.order', subject: 'Käse 🧀 "x" %41', extensions: { region: 'eu west' } },
        time: { sent: '2026-01-31T12:00:00.123456+02:00', utc: '2026-01-31T10:00:00.123456Z' },
        data: object(['n', `[${NUMBERS.join()}]`]),
      }
    case 2:
      return { key, type: 'model.text', datacontenttype: 'text/plain', extensions: {}, data: quote(`${owner}\n\t"ä\\`) }
    case 3: {
      const base64 = Buffer.concat([Buffer.from([0, 255, 254]), Buffer.from(owner)]).toString('base64')
      return { key, type: 'model.bytes', datacontenttype: 'application/octet-stream', extensions: {}, base64 }
    }
    case 4:
      return {
        key,
        ...json,
        type: 'model.large',
        extensions: {},
        data: object(['pad', quote('Füllung '.repeat(6000))]),
      }
    case 5:
      return { key, type: 'model.null', extensions: { hot: true, prio: -3 }, data: 'null' }
    case 6:
      return { key, type: 'model.empty', dataschema: 'https://example.com/schema#1', extensions: {} }
    default: {
      // 0 and 7 differ in a digit that a double cannot hold.
      const n = variant === 0 ? '12345678901234567890' : '12345678901234567891'
      return { key, type: 'model.number', extensions: {}, data: object(['n', n], ['f', '0.1000000000000000055']) }
    }
  }
}

const quote = (text: string) => JSON.stringify(text)

function write(members: [string, string][], spelling: number): string {
  if (spelling === 0) return `{${members.map(([name, value]) => `"${name}":${value}`).join()}}`
  return `{ ${members
    .toReversed()
    .map(([name, value]) => `"${name}" :\t${value}`)
    .join(' , ')} }`
}

/** A digest that differs if any character of the content differs. */
export function digestOf(content: Omit<Content, 'key' | 'time'>, utc: string | undefined): string {
  const { type, subject, dataschema, datacontenttype, extensions, data, base64 } = content
  const all = [type, subject, utc, dataschema, datacontenttype, Object.entries(extensions).sort(), data, base64]
  return hash('sha1', JSON.stringify(all.map((value) => value ?? null)), 'base64url').slice(0, 16)
}

/** A record that the API shows. */
export interface Shown {
  source: string
  id: string
  cursor: string
  digest: string
}

/** Compares two positions: offsets sort as text. */
export const compareCursors = (one: string, other: string): number => (one < other ? -1 : one > other ? 1 : 0)

const KNOWN = ['specversion', 'source', 'id', 'type', 'time', 'subject', 'dataschema', 'datacontenttype']
const OWN = new Set([...KNOWN, 'data', 'data_base64', 'receivedAt', 'cursor'])

/** @param text a record as JSON @throws SyntaxError if it is not a record */
export function readShown(text: string): Shown {
  const members = membersOf(text)
  const value = (name: string) => (members.has(name) ? JSON.parse(members.get(name) as string) : undefined)
  const extensions = Object.fromEntries([...members.keys()].filter((name) => !OWN.has(name)).map((n) => [n, value(n)]))
  const [type, subject, dataschema] = [value('type'), value('subject'), value('dataschema')]
  const [datacontenttype, data, base64] = [value('datacontenttype'), members.get('data'), value('data_base64')]
  // If the client sent no time, the API shows the time of receipt. The model never sends a current time, so the two cannot be confused.
  const utc = value('time') === value('receivedAt') ? undefined : value('time')
  const digest = digestOf({ type, subject, dataschema, datacontenttype, extensions, data, base64 } as Content, utc)
  const shown: Shown = { source: value('source'), id: value('id'), cursor: value('cursor'), digest }
  if (Object.values(shown).some((part) => typeof part !== 'string'))
    throw new SyntaxError(`not a record: ${text.slice(0, 500)}`)
  return shown
}

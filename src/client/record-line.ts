import { styleText } from 'node:util'
import { pick } from '../lib/json/pick.ts'
import { printable } from '../lib/printable.ts'

/** The payload gets at least this many characters, and the rest of the line if that is longer. */
const MIN_PAYLOAD = 40
/** More than this is not looked at: it would not fit on any terminal. In characters. */
const MAX_PAYLOAD = 4_096

/**
 * A record as one line for a terminal: time, source, type, id, subject and the beginning of its payload. The terminal decides about
 * colours, and so does NO_COLOR.
 * @param record in JSON
 * @param columns of the terminal
 */
export function describeRecord(record: string, columns: number): string {
  const values = new Array<string | null>(WANTED.size).fill(null)
  pick(record, WANTED, values)
  const [data, bytes, ...attributes] = values
  const [time, source, type, id, subject] = attributes.map((text) => (text === null ? '' : printable(JSON.parse(text))))
  const payload = data ?? bytes ?? ''
  const used = join([time, source, type, id, subject]).length + SEPARATOR.length
  const room = Math.max(columns - used, MIN_PAYLOAD)
  return join([
    styleText('dim', time as string),
    styleText('cyan', source as string),
    styleText('green', type as string),
    id,
    subject,
    truncate(printable(compact(payload.slice(0, MAX_PAYLOAD))) + (payload.length > MAX_PAYLOAD ? '…' : ''), room),
  ])
}

const SEPARATOR = '  '

const join = (words: (string | undefined)[]) => words.filter((word) => word !== '').join(SEPARATOR)

const WANTED = new Map(
  ['data', 'data_base64', 'time', 'source', 'type', 'id', 'subject'].map((name, index) => [name, index]),
)

/** JSON without the white space between its values. The text may have been truncated. */
const compact = (json: string) => json.replaceAll(/("(?:[^"\\]|\\.)*"?)|\s+/gs, '$1')

const truncate = (text: string, length: number) =>
  // Half a surrogate pair is not a character.
  text.length <= length ? text : `${text.slice(0, length - 1).replace(/[\ud800-\udbff]$/, '')}…`

import type { IncomingHttpHeaders } from 'node:http'
import { before } from '../lib/before.ts'
import { quoted } from '../lib/quoted.ts'
import { waitForTurn } from '../lib/turns.ts'
import { Problem } from '../problems.ts'
import { LINE_TYPES } from '../schemas/media-types.ts'
import { decodeText } from './body.ts'
import { BATCHED, isBinary, readBinaryEvent, STRUCTURED } from './cloudevents.ts'
import type { Defaults } from './envelope.ts'
import { type Batch, type JsonFormat, PLAIN, type RecordLimits, readJsonRecords } from './json-records.ts'
import { mediaTypeHint } from './media-type-hint.ts'

/** How the body of a request is read: as JSON, as lines, or as the data of an event with its attributes in headers. */
export type BodyFormat = JsonFormat | 'lines' | 'binary'

/** Keys are media types in lower case, without parameters. */
const FORMATS: Record<string, BodyFormat> = {
  'application/json': PLAIN,
  ...Object.fromEntries(LINE_TYPES.map((type) => [type, 'lines'])),
  'application/cloudevents+json': STRUCTURED,
  'application/cloudevents-batch+json': BATCHED,
}

/** The media types of bodies, apart from events in binary mode. */
export const MEDIA_TYPES = Object.keys(FORMATS)

/**
 * Chooses the format from the headers alone, so that an unsupported request is refused before its body is read.
 * @throws Problem unsupported_media_type, unsupported_charset
 */
export function chooseFormat(headers: IncomingHttpHeaders): BodyFormat {
  const contentType = headers['content-type']?.toLowerCase() ?? ''
  const essence = before(contentType, ';').trim()
  // HTTP binding, section 3: a CloudEvents media type decides. With any other type, ce- headers mean binary mode.
  const format = essence.startsWith('application/cloudevents') || !isBinary(headers) ? FORMATS[essence] : 'binary'
  if (format === undefined) {
    const types = MEDIA_TYPES.join(', ')
    const what = essence === '' ? 'is missing' : `${quoted(essence)} is not supported`
    const detail = [`Content-Type ${what}.`, mediaTypeHint(essence), `Supported types: ${types}.`]
      .filter(Boolean)
      .join(' ')
    // RFC 9110, section 15.5.16; Accept-Post is defined in Linked Data Platform 1.0, section 7.1.
    throw new Problem('unsupported_media_type', detail, {
      headers: { accept: types, 'accept-post': types },
    })
  }
  // RFC 8259, section 8.1: JSON between systems is UTF-8.
  const charset = /;\s*charset\s*=\s*"?([^\s;"]+)/.exec(contentType)?.[1]
  if (format !== 'binary' && charset !== undefined && !/^(?:utf-?8|us-ascii)$/.test(charset)) {
    throw new Problem(
      'unsupported_charset',
      `The charset ${quoted(charset)} is not supported; JSON must be UTF-8. Convert it, and omit charset.`,
    )
  }
  return format
}

/** In bytes. A larger body waits for a turn before it is decoded. */
const LARGE = 1024 * 1024

/**
 * Reads the records of a complete body.
 * @param owner id of the API key that takes turns (lib/turns.ts)
 * @throws Problem if the body as a whole is invalid
 */
export async function readBatch(
  format: Exclude<BodyFormat, 'lines'>,
  rawHeaders: readonly string[],
  content: Buffer,
  limits: RecordLimits,
  defaultsFor: (single: boolean) => Defaults,
  owner: string,
): Promise<Batch> {
  // Decoding the largest body takes a whole turn, and other work may have used up the current one.
  if (content.length > LARGE) await waitForTurn(owner)
  if (format === 'binary') return readBinaryEvent(rawHeaders, content, limits, defaultsFor(true), owner)
  return readJsonRecords(decodeText(content), format, limits, defaultsFor, owner)
}

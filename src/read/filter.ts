import type { Key } from '../access/key.ts'
import type { RecordFilter } from '../data/listing.ts'
import { decodeCursor, type Position } from '../lib/cursor.ts'
import { MAX_DEPTH } from '../lib/json/extent.ts'
import { jsonFault, walkAtOnce } from '../lib/json/parse.ts'
import { parseTime } from '../lib/rfc3339.ts'
import { DEFAULT_LIMIT, type ListQuery, MAX_LIMIT } from '../schemas/list.ts'
import { refuseParameter } from './refuse-parameter.ts'

/** Reads the filter, and checks what the schema of the query cannot check. @throws Problem invalid_query */
export function readFilter(query: ListQuery, key: Key): RecordFilter {
  return {
    source: text('source', query.source),
    sourcePrefix: text('sourcePrefix', query.sourcePrefix),
    id: text('id', query.id),
    type: text('type', query.type),
    subject: text('subject', query.subject),
    allowedPrefixes: key.sourcePrefixes,
    timeFrom: time('timeFrom', query.timeFrom),
    timeUntil: time('timeUntil', query.timeUntil),
    receivedFrom: time('receivedFrom', query.receivedFrom),
    receivedUntil: time('receivedUntil', query.receivedUntil),
    data: json('data', query.data),
  }
}

/** Ajv accepts "Infinity", and any number above 1e308, as an integer within any maximum. @throws Problem invalid_query */
export function readLimit(limit = DEFAULT_LIMIT): number {
  return Number.isFinite(limit) ? limit : refuseParameter('limit', `must be a number from 1 to ${MAX_LIMIT}`)
}

/** @throws Problem invalid_cursor */
export function readCursor(cursor: string | undefined): Position | undefined {
  if (cursor === undefined) return undefined
  return (
    decodeCursor(cursor) ??
    refuseParameter(
      'cursor',
      'is not a cursor of this service, or was damaged. Use the value of next, or start without a cursor',
      'invalid_cursor',
    )
  )
}

function text(name: string, value: string | undefined): string | undefined {
  if (value?.includes('\0')) refuseParameter(name, 'contains U+0000, which no record can contain')
  return value
}

function time(name: string, value: string | undefined): string | undefined {
  if (value === undefined) return undefined
  const parsed = parseTime(value)
  if ('utc' in parsed) return parsed.utc
  // The form of 12:00:00+02:00 if its plus is not percent-encoded.
  const hint = /\d \d\d:\d\d$/.test(value) ? '; in a URL, + must be written as %2B' : ''
  return refuseParameter(name, `${parsed.problem}${hint}`)
}

function json(name: string, value: string | undefined): string | undefined {
  if (value === undefined) return undefined
  const walk = walkAtOnce(value)
  const fault = jsonFault(walk, value)
  if (fault !== undefined) refuseParameter(name, `is not JSON: ${fault.detail.replace('The body is not JSON: ', '')}`)
  if (walk.deepest > MAX_DEPTH)
    refuseParameter(name, `is nested more than ${MAX_DEPTH} levels deep, which is deeper than any record can be`)
  if (walk.unstorable !== undefined)
    refuseParameter(name, `contains a value that no record can contain. ${walk.unstorable.detail}`)
  return value
}

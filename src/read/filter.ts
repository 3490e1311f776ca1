import type { RecordFilter } from '../data/select-records.ts'
import { MAX_DEPTH } from '../ingest/json.ts'
import { isDeeper, parseJson } from '../ingest/parse-json.ts'
import { findUnstorable } from '../ingest/storable.ts'
import { parseTime } from '../ingest/time.ts'
import { decodeCursor, type Position } from '../lib/cursor.ts'
import { Problem, type ProblemCode } from '../lib/problems.ts'
import type { Key } from '../operate/keys.ts'
import { DEFAULT_LIMIT, type ListQuery, MAX_LIMIT } from '../schemas/list.ts'

/** Reads what the schema of the query cannot check. @throws Problem invalid_query */
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

/** Ajv takes "Infinity", and any number past 1e308, for an integer that no maximum applies to. @throws Problem invalid_query */
export function readLimit(limit = DEFAULT_LIMIT): number {
  return Number.isFinite(limit) ? limit : wrong('limit', `must be a number from 1 to ${MAX_LIMIT}`)
}

/** @throws Problem invalid_cursor */
export function readCursor(cursor: string | undefined): Position | undefined {
  if (cursor === undefined) return undefined
  return (
    decodeCursor(cursor) ??
    wrong(
      'cursor',
      'is not a cursor of this service, or was damaged on the way. Take it from next, or begin without one',
      'invalid_cursor',
    )
  )
}

function text(name: string, value: string | undefined): string | undefined {
  if (value?.includes('\0')) wrong(name, 'holds U+0000, which no record can')
  return value
}

function time(name: string, value: string | undefined): string | undefined {
  if (value === undefined) return undefined
  const parsed = parseTime(value)
  if ('utc' in parsed) return parsed.utc
  // What becomes of 12:00:00+02:00 when its plus is not percent-encoded.
  const hint = /\d \d\d:\d\d$/.test(value) ? '; in a URL, + is written %2B' : ''
  return wrong(name, `${parsed.problem}${hint}`)
}

function json(name: string, value: string | undefined): string | undefined {
  if (value === undefined) return undefined
  try {
    parseJson(value)
  } catch (error) {
    wrong(name, `is not JSON: ${(error as Error).message.replace('The body is not JSON: ', '')}`)
  }
  if (isDeeper(value, MAX_DEPTH)) wrong(name, `is nested more than ${MAX_DEPTH} levels deep, which no data is`)
  const found = findUnstorable(value, '')
  return found === undefined ? value : wrong(name, `holds what no record can. ${found.detail}`)
}

function wrong(name: string, why: string, code: ProblemCode = 'invalid_query'): never {
  const detail = `${name} ${why.replace(/\.$/, '')}.`
  throw new Problem(code, detail, { errors: [{ pointer: name, code, detail }] })
}

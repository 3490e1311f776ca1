import type { Key } from '../access/key.ts'
import type { RecordFilter } from '../data/listing.ts'
import { MAX_DEPTH } from '../lib/json/extent.ts'
import { jsonFault, walkAtOnce } from '../lib/json/parse.ts'
import { decodeOffset, type Position } from '../lib/offset.ts'
import { parseTime } from '../lib/rfc3339.ts'
import { timeHint } from '../lib/time-hint.ts'
import { sqlstateOf } from '../postgres/sqlstate.ts'
import { DEFAULT_LIMIT, type ListQuery, MAX_LIMIT } from '../schemas/list.ts'
import { readJsonpath } from './jsonpath.ts'
import { invalidParameter, refuseParameter } from './refuse-parameter.ts'

/** Reads the filter, and checks what the schema of the query cannot check. @throws Problem invalid_query */
export function readFilter(query: ListQuery, key: Key): RecordFilter {
  return {
    source: readTextParameter('source', query.source),
    sourcePrefix: readTextParameter('sourcePrefix', query.sourcePrefix),
    id: readTextParameter('id', query.id),
    type: readTextParameter('type', query.type),
    subject: readTextParameter('subject', query.subject),
    allowedPrefixes: key.sourcePrefixes,
    timeFrom: readTimeParameter('timeFrom', query.timeFrom),
    timeUntil: readTimeParameter('timeUntil', query.timeUntil),
    receivedFrom: readTimeParameter('receivedFrom', query.receivedFrom),
    receivedUntil: readTimeParameter('receivedUntil', query.receivedUntil),
    data: json('data', query.data),
    jsonpath: query.jsonpath === undefined ? undefined : readJsonpath(query.jsonpath),
  }
}

/** Ajv accepts "Infinity", and any number above 1e308, as an integer within any maximum. @throws Problem invalid_query */
export function readLimit(limit = DEFAULT_LIMIT): number {
  return Number.isFinite(limit) ? limit : refuseParameter('limit', `must be a number from 1 to ${MAX_LIMIT}`)
}

/** @throws Problem invalid_offset */
export function readCursor(cursor: string | undefined): Position | undefined {
  if (cursor === undefined) return undefined
  if (cursor === 'null' || cursor === 'undefined')
    refuseParameter(
      'cursor',
      `is ${cursor}: the last page has no next page. To read the first page, omit cursor`,
      'invalid_offset',
    )
  return (
    decodeOffset(cursor) ??
    refuseParameter(
      'cursor',
      'is not a cursor of this service, or was damaged. Use the value of next, or start without a cursor',
      'invalid_offset',
    )
  )
}

/** @throws Problem invalid_query */
export function readTextParameter(name: string, value: string | undefined): string | undefined {
  if (value?.includes('\0')) refuseParameter(name, 'contains U+0000 (%00), which no record can contain. Remove it')
  return value
}

/** @returns the time in UTC. @throws Problem invalid_query */
export function readTimeParameter(name: string, value: string | undefined): string | undefined {
  if (value === undefined) return undefined
  const parsed = parseTime(value)
  if ('utc' in parsed) return parsed.utc
  // The form of 12:00:00+02:00 if its plus is not percent-encoded.
  const plus = /\d \d\d:\d\d$/.test(value) ? '; in a URL, + must be written as %2B' : ''
  return refuseParameter(name, plus === '' ? `${parsed.problem}.${timeHint(value)}` : `${parsed.problem}${plus}`)
}

function json(name: string, value: string | undefined): string | undefined {
  if (value === undefined) return undefined
  const walk = walkAtOnce(value)
  const fault = jsonFault(walk, value, { parameter: name })
  if (fault !== undefined) throw invalidParameter(name, fault.detail)
  if (walk.deepest > MAX_DEPTH)
    refuseParameter(name, `is nested more than ${MAX_DEPTH} levels deep, which is deeper than any record can be`)
  if (walk.unstorable !== undefined)
    refuseParameter(name, `contains a value that no record can contain. ${walk.unstorable.detail}`)
  return value
}

/** Only PostgreSQL knows whether a pattern is valid (2201B) and a number is in range (22003). 42601: the rest of the syntax. */
const WRONG_JSONPATH = /^(?:2201B|22003|42601)$/

/** For catch: rejects with Problem invalid_query if PostgreSQL refuses the jsonpath of the query, otherwise with the same error. */
export const explainJsonpath =
  ({ jsonpath }: ListQuery) =>
  (error: unknown): never => {
    if (jsonpath === undefined || !WRONG_JSONPATH.test(sqlstateOf(error) ?? '')) throw error
    return refuseParameter('jsonpath', `is not one that PostgreSQL can use: ${(error as Error).message}`)
  }

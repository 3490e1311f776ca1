import type { Row } from '../data/row.ts'
import { type Fault, Problem } from '../lib/problems.ts'
import { type Defaults, readEnvelope } from './envelope.ts'
import { type Extent, findExtents, MAX_DEPTH } from './json.ts'
import { parseJson } from './parse-json.ts'
import { findUnstorable, pointerToken } from './storable.ts'

export interface RecordLimits {
  maxRecordBytes: number
  maxBatchRecords: number
}

/** What a body holds: for each record, in order, its row or what is wrong with it. */
export interface Batch {
  /** Was it a single object, not an array? */
  single: boolean
  records: (Row | Fault)[]
}

export const isFault = (record: Row | Fault): record is Fault => 'code' in record

/**
 * Reads application/json: one record or an array of records.
 * Parsed once, for the checks; the payloads of the rows are slices of the text, since JSON.parse rounds what a double
 * cannot hold.
 * @throws Problem invalid_json, too_deep, wrong_type, too_many_records
 */
export function readJsonRecords(text: string, limits: RecordLimits, defaultsFor: (single: boolean) => Defaults): Batch {
  const parsed = parseJson(text)
  if (typeof parsed !== 'object' || parsed === null) {
    throw new Problem('wrong_type', 'The body must be a JSON object (a record) or an array of them.')
  }
  const single = !Array.isArray(parsed)
  const values: unknown[] = single ? [parsed] : parsed
  if (values.length > limits.maxBatchRecords) {
    throw new Problem(
      'too_many_records',
      `The batch holds ${values.length} records; at most ${limits.maxBatchRecords} are taken at once.`,
    )
  }
  const extents = findExtents(text)
  const defaults = defaultsFor(single)
  return {
    single,
    records: values.map((value, index) => readRecord(text, value, extents[index] as Extent, index, limits, defaults)),
  }
}

function readRecord(
  text: string,
  value: unknown,
  extent: Extent,
  index: number,
  limits: RecordLimits,
  defaults: Defaults,
): Row | Fault {
  if (isLonger(text, extent, limits.maxRecordBytes)) {
    return {
      index,
      pointer: '',
      code: 'record_too_large',
      detail: `The record is larger than ${limits.maxRecordBytes} bytes.`,
    }
  }
  if (extent.tooDeep) {
    return {
      index,
      pointer: '/data',
      code: 'too_deep',
      detail: `The data is nested more than ${MAX_DEPTH} levels deep.`,
    }
  }
  const members = extent.members
  if (members > 0 && members !== Object.keys(value as object).length) {
    return {
      index,
      pointer: '',
      code: 'repeated_field',
      detail: 'A field occurs twice in the record; which one is meant?',
    }
  }
  const row = readEnvelope(value, index, defaults)
  if (isFault(row)) return row
  // CloudEvents JSON format, section 2.2. As a double, 1.00000000000000000001 has become 1 by now.
  if (extent.fractional !== undefined) {
    return {
      index,
      pointer: `/${pointerToken(extent.fractional)}`,
      code: 'wrong_type',
      detail: 'The number of an attribute is an integer, written without fraction and exponent.',
    }
  }
  if (extent.dataEnd === 0) return row

  row.data = text.slice(extent.dataStart, extent.dataEnd)
  if (extent.suspicious) {
    const found = findUnstorable(row.data, '/data')
    if (found !== undefined) return { index, ...found }
  }
  return row
}

/** In bytes of UTF-8, which are at least one and at most three a UTF-16 unit: counted only where that does not decide. */
function isLonger(text: string, { start, end }: Extent, max: number): boolean {
  if ((end - start) * 3 <= max) return false
  return end - start > max || Buffer.byteLength(text.slice(start, end)) > max
}
